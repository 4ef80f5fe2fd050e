//! The entries of a register call.

use std::cell::Cell;

use super::*;
use crate::options::{Action, AgentConfig, WakeRecipe};
use crate::session::entries::{agents, providers};

#[actix::test]
async fn a_model_that_is_a_path_is_sent_as_its_file_name() {
    let config = ProviderConfig { model: "/home/alice/models/qwen.gguf".into(), ..provider("a") };
    let check: AvailabilityCheck = Rc::new(|_| ready_with(true));
    let entries = providers(&[Arc::new(config)], &check).await;
    assert_eq!(entries[0].model, "qwen.gguf");
}

#[actix::test]
async fn a_non_default_timeout_is_sent_in_whole_seconds() {
    let check: AvailabilityCheck = Rc::new(|_| ready_with(true));
    let sent = async |timeout| {
        let config = ProviderConfig { timeout, ..provider("a") };
        providers(&[Arc::new(config)], &check).await[0].timeout_seconds
    };
    assert_eq!(sent(ProviderConfig::TIMEOUT).await, None);
    assert_eq!(sent(90 * SECOND).await, Some(90));
    assert_eq!(sent(Duration::from_millis(1500)).await, Some(2));
}

#[actix::test]
async fn only_a_provider_with_a_wake_recipe_is_hibernating() {
    let wake = || Some(WakeRecipe { action: wake_on_lan(), max_wait: SECOND });
    let awake = Arc::new(ProviderConfig { wake: wake(), ..provider("awake") });
    let asleep = Arc::new(ProviderConfig { wake: wake(), ..provider("asleep") });
    let broken = Arc::new(ProviderConfig { wake: wake(), ..provider("broken") });
    let plain = Arc::new(provider("plain"));
    let calls = Rc::new(Cell::new(0));
    let counted = Rc::clone(&calls);
    let check: AvailabilityCheck = Rc::new(move |config| {
        counted.set(counted.get() + 1);
        match config.name.as_str() {
            "awake" => ready_with(true),
            "asleep" => ready_with(false),
            _ => Box::pin(async { panic!("in available()") }),
        }
    });
    let entries = providers(&[awake, asleep, broken, plain], &check).await;
    let statuses: Vec<_> = entries.iter().map(|entry| entry.initial_status.as_str()).collect();
    assert_eq!(statuses, ["active", "hibernating", "hibernating", "active"]);
    assert_eq!(calls.get(), 3, "a provider without a recipe is not checked");
}

fn wake_on_lan() -> Action {
    Action::WakeOnLan { mac: [0; 6], broadcast: "127.0.0.1".to_owned(), port: 9 }
}

#[test]
fn an_agents_llm_is_sent_by_its_name_at_the_hub() {
    let mut alice = provider("local-alice");
    alice.name = "local".to_owned();
    let agent = |name: &str, llm: &str| AgentConfig {
        wire_name: WireName::parse(name).unwrap(),
        llm: llm.to_owned(),
        description: None,
        system_prompt: None,
        project: None,
        default_params: None,
        extras: None,
        visibility: wire::row::Visibility::default(),
    };
    let configs = [agent("one", "local"), agent("two", "elsewhere")];
    let published = [Arc::new(alice)];
    let names = |withdrawn: bool| -> Vec<String> {
        agents(&configs, &published, |_| withdrawn).into_iter().map(|entry| entry.llm_name).collect()
    };
    assert_eq!(names(false), ["local-alice", "elsewhere"]);
    assert_eq!(names(true), ["elsewhere"], "an agent is withdrawn with its LLM");
}
