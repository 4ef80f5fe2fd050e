//! The sticky session on disk: copies of it, and a SIGKILL while it is written.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::classic_hub::ClassicHub;
use testkit::process::Home;
use testkit::team::{Team, start_registrar};
use testkit::wait::wait_for;
use tokio::time::sleep;

use super::registrar::{QUICK, home_with_mock};

/// F57, F58: two machines with copies of one session do not take it from each other again and again: the newer has it,
/// and the older names the conflict.
#[actix_rt::test]
async fn of_two_registrars_with_one_session_the_newer_has_it_and_the_older_says_why_not() {
    let team = Team::start().await;
    let copy = Home::new();
    for name in ["config.json", "credentials", "provider-session"] {
        copy.write(name, &std::fs::read_to_string(team.home.mcpctl().join(name)).unwrap());
    }
    let newer = start_registrar(&copy);
    newer.logs("control channel open").await;
    team.registrar.logs("another registrar uses the same session").await;
    team.hub.logs("two registrars have copies of one session file").await;
    // Twenty times as long as a reconnect may take.
    sleep(Duration::from_secs(4)).await;
    for registrar in [&team.registrar, &newer] {
        assert_eq!(registrar.stderr().matches("control channel open").count(), 1, "{}", registrar.stderr());
    }
    assert_eq!(team.row().await["status"], "active");
    assert_eq!(team.chat(false).await.status, 200);
    assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
}

/// F56: wherever SIGKILL hits a registrar that writes its session file, the file holds an id that the hub gave, whole,
/// and the next start uses it.
#[actix_rt::test]
async fn a_kill_while_the_session_file_is_written_leaves_a_whole_id() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let given = |n: usize| format!("sess-{n:03}-{}", "x".repeat(200));
    // Each register call gives another id, and each heartbeat asks for another register call.
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
        wait_for("it registers with the id of the file", || async {
            let seen = hub.requests("_provider-register");
            seen[calls..].iter().any(|seen| seen.json()["providerSessionId"] == id).then_some(())
        })
        .await;
        next.signal(Signal::SIGKILL);
        next.end().await;
        calls = hub.requests("_provider-register").len();
    }
}
