//! Tasks that no publisher has read.

use super::*;

/// A channel of `user`'s session that nobody reads.
fn unread_channel(hub: &TestHub, user: &str, session: &str) -> Receiver {
    let owner = Caller {
        user: user.into(),
        role: Role::Member,
        token_id: "test".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    let core = hub.core();
    core.registry.lock().open(&owner, session, "stalled".into(), Features::ALL, core.now()).unwrap();
    core.channels.open(session, "stalled", true, user, 1 << 20)
}

/// Carl calls `name`, which is given to dave when the task is sent.
async fn unread_call(world: &World, name: &str) -> (u16, String) {
    let call = world.call(name);
    let waits = async { timeout(PATIENCE, call.send()).await.expect("it waits on") };
    let (answer, ()) = futures_util::join!(waits, async {
        eventually("it is sent", async || {
            let (_, tasks) = world.hub.ask("GET", TASKS).json().await;
            tasks[0]["status"] == "claimed"
        })
        .await;
        world.ask(ADMIN, "PUT", &format!("/api/v1/names/{name}"), r#"{ "ownerId": "dave" }"#).await;
    });
    answer
}

/// A38: a task that its publisher has not read when the name gets another owner is withdrawn.
#[actix_rt::test]
async fn an_unread_task_is_withdrawn_when_its_name_gets_another_owner() {
    let world = World::new(provider("b")).await;
    let (hub, eve) = (&world.hub, world.hub.member("eve").await);
    let eves = Publisher::register(hub, &eve, None, &[provider("e")]).await;
    let mut unread = unread_channel(hub, "eve", &eves.session);
    let answer = unread_call(&world, "e").await;
    assert_ended(&answer, 404, "model_not_found");
    assert!(unread.next().now_or_never().is_none(), "the former owner reads the prompt");
    world.hub.stop().await;
}

/// A38: a task whose name gets another owner after the last check and before the task is registered is not sent.
#[actix_rt::test]
async fn a_task_is_not_sent_if_its_name_is_claimed_before_it_is_registered() {
    let mut world = World::new(provider("b")).await;
    let hub = world.hub.core().clone();
    let give = move || {
        let admin = Caller {
            user: "root".into(),
            role: Role::Admin,
            token_id: "test".into(),
            models: crate::model::AllowedModels::default(),
            secret: None,
        };
        drop(
            hub.try_change(&TableTurn::Alone, |registry| registry.give_name(&admin, "b", "dave", hub.now()))
                .unwrap(),
        );
    };
    *world.hub.core().capacity.before_open.lock() = Some(Box::new(give));
    let answer = world.call("b").send().await;
    assert_ended(&answer, 404, "model_not_found");
    world.gets_only_later().await;
    world.hub.stop().await;
}

/// A38: an unread task that was called through an agent is withdrawn when the agent's name gets another owner.
#[actix_rt::test]
async fn an_unread_task_is_withdrawn_when_its_agent_gets_another_owner() {
    let world = World::new(provider("b")).await;
    let (hub, eve) = (&world.hub, world.hub.member("eve").await);
    let eves = Publisher::register(hub, &eve, None, &[provider("e")]).await;
    world.ask(&eve, "POST", "/api/v1/agents", r#"{"name":"ag","llmName":"e","visibility":"public"}"#).await;
    let mut unread = unread_channel(hub, "eve", &eves.session);
    let answer = unread_call(&world, "ag").await;
    assert_ended(&answer, 404, "model_not_found");
    assert!(unread.next().now_or_never().is_none(), "the former owner reads the prompt");
    world.hub.stop().await;
}
