//! The session file on disk: two copies in use, and SIGKILL during a write.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::classic_hub::ClassicHub;
use testkit::process::Home;
use testkit::team::{Team, connected_registrar};
use testkit::wait::wait_for;
use tokio::time::sleep;

use super::registrar::{QUICK, home_with_mock};

/// F57, F58: if two machines use copies of one session file, the newer registrar keeps the session and the older one logs the
/// conflict; they do not displace each other in turn.
#[actix_rt::test]
async fn of_two_registrars_with_one_session_the_newer_one_keeps_it() {
    let team = Team::start().await;
    let copy = Home::new();
    for name in ["config.json", "credentials", "provider-session"] {
        copy.write(name, &std::fs::read_to_string(team.home.mcpctl().join(name)).unwrap());
    }
    let newer = connected_registrar(&copy).await;
    team.registrar.logs("another registrar uses the same session").await;
    team.hub.logs("two registrars have copies of one session file").await;
    // Twenty times the longest delay of a reconnect.
    sleep(Duration::from_secs(4)).await;
    for registrar in [&team.registrar, &newer] {
        assert_eq!(registrar.stderr().matches("control channel open").count(), 1, "{}", registrar.stderr());
    }
    assert_eq!(team.row().await["status"], "active");
    assert_eq!(team.chat(false).await.status, 200);
    assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
}

/// F56: after SIGKILL at any time during a write, the session file has one whole id from the hub, and the next start uses it.
#[actix_rt::test]
async fn sigkill_during_a_write_leaves_a_whole_id_in_the_session_file() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let given = |n: usize| format!("sess-{n:03}-{}", "x".repeat(200));
    // Each register call returns a new id, and each heartbeat's 404 causes another register call.
    hub.script("_provider-register", (0..900).map(|n| (201, json!({ "providerSessionId": given(n) }))));
    hub.script("_provider-heartbeat", (0..900).map(|_| (404, json!({ "error": "unknown session" }))));
    let file = home.mcpctl().join("provider-session");
    let mut calls = 0;
    for round in 0..12 {
        let process = home.start(&[&QUICK[..], &["--heartbeat-interval", "1ms"]].concat());
        hub.request("_provider-register", calls + 2).await;
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let wait = Duration::from_micros(u64::from(random[0]) * 100);
        sleep(wait).await;
        process.signal(Signal::SIGKILL);
        process.end().await;
        let text = std::fs::read_to_string(&file).unwrap();
        let id = text.strip_suffix('\n').unwrap_or_else(|| panic!("{text:?} after {wait:?}"));
        calls = hub.requests("_provider-register").len();
        assert!((0..calls).any(|n| given(n) == id), "{id:?} after {wait:?} in round {round}");
        let next = home.start(&QUICK);
        wait_for("the registrar registers with the id of the file", || async {
            let seen = hub.requests("_provider-register");
            seen[calls..].iter().any(|seen| seen.json()["providerSessionId"] == id).then_some(())
        })
        .await;
        next.signal(Signal::SIGKILL);
        next.end().await;
        calls = hub.requests("_provider-register").len();
    }
}
