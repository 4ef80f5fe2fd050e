//! Reloads of the configuration.

use testkit::classic_hub::ClassicHub;
use testkit::connection::Request;
use testkit::wait::wait_until;

use super::controlled_backend::{ControlledBackend, provider};
use super::{end, infer, options, started};
use crate::options::{AgentConfig, ProviderConfig};
use crate::registrar::Registrar;
use crate::status::ChannelState;
use wire::WireName;

fn names(register: &Request) -> Vec<String> {
    let body = register.json();
    let providers = body["providers"].as_array().cloned().unwrap_or_default();
    providers.iter().map(|provider| provider["name"].as_str().unwrap_or_default().to_owned()).collect()
}

pub(super) fn agent(name: &str, llm: &str) -> AgentConfig {
    AgentConfig {
        wire_name: WireName::parse(name).unwrap(),
        llm: llm.to_owned(),
        description: None,
        system_prompt: Some("Be brief.".to_owned()),
        project: None,
        default_params: None,
        extras: None,
        visibility: wire::row::Visibility::default(),
    }
}

#[actix::test]
async fn a_reload_adds_and_removes_providers_on_the_same_channel() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a"), provider("b")]).await;
    registrar.reload(vec![provider("b"), provider("c")], vec![agent("helper", "c")]);
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(names(&register), ["b", "c"]);
    assert_eq!(register.json()["agents"][0]["llmName"], "c");
    for (id, llm) in [("t1", "a"), ("t2", "b"), ("t3", "c")] {
        hub.task(infer(id, llm));
    }
    let removed = hub.request("t1/result", 1).await;
    assert_eq!(removed.text(), r#"{"error":"provider 'a' not registered locally"}"#);
    assert_eq!(hub.request("t2/result", 1).await.json()["status"], 200);
    assert_eq!(hub.request("t3/result", 1).await.json()["status"], 200);
    assert_eq!(hub.requests("_provider-stream").len(), 1);
    end(registrar).await;
}

#[actix::test]
async fn running_tasks_keep_their_settings_after_a_reload() {
    let hub = ClassicHub::start();
    let (old, removed, new) =
        (ControlledBackend::held("old"), ControlledBackend::held("removed"), ControlledBackend::new("new"));
    let one_at_a_time = ProviderConfig { max_concurrency: 1, ..removed.provider("b") };
    let registrar = started(&hub, vec![old.provider("a"), one_at_a_time]).await;
    for (id, llm) in [("t1", "a"), ("t2", "b"), ("t3", "b")] {
        hub.task(infer(id, llm));
    }
    wait_until("both tasks run", || old.started() + removed.started() == 2).await;
    registrar.reload(vec![new.provider("a")], Vec::new());
    hub.request("_provider-register", 2).await;
    hub.task(infer("t4", "a"));
    let content =
        |call: Request| call.json()["body"]["choices"][0]["message"]["content"].as_str().map(str::to_owned);
    assert_eq!(content(hub.request("t4/result", 1).await).as_deref(), Some("new"));
    old.permits.add_permits(1);
    removed.permits.add_permits(2);
    assert_eq!(content(hub.request("t1/result", 1).await).as_deref(), Some("old"));
    assert_eq!(content(hub.request("t2/result", 1).await).as_deref(), Some("removed"));
    assert_eq!(
        content(hub.request("t3/result", 1).await).as_deref(),
        Some("removed"),
        "queued tasks run, too"
    );
    end(registrar).await;
}

#[actix::test]
async fn without_providers_the_channel_is_closed_until_a_reload() {
    let hub = ClassicHub::start();
    let registrar = Registrar::start(options(&hub, vec![provider("a")])).unwrap();
    registrar.ready().await.unwrap();
    registrar.reload(Vec::new(), Vec::new());
    wait_until("closed", || !hub.requests("_provider-stream").is_empty() && hub.open_channels() == 0).await;
    assert_eq!(registrar.status().await.unwrap().channel.state, ChannelState::Idle);
    registrar.reload(vec![provider("b")], Vec::new());
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(names(&register), ["b"]);
    hub.request("_provider-stream", 2).await;
    wait_until("the channel is open again", || hub.open_channels() == 1).await;
    end(registrar).await;
}
