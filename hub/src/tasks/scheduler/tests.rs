use super::*;
use crate::model::{Role, TaskStatus};
use crate::tasks::open_task::tests::pending_task;
use crate::tests::support::{eventually, hub};

/// P1, F86: a panic of a task's runner ends the task.
#[actix_rt::test]
async fn a_runner_that_panics_ends_its_task() {
    let hub = hub().await;
    let core = hub.core().clone();
    let permit = core.tasks.restored_permit("alice");
    core.enqueue(pending_task("t"), permit);
    let caller = Caller {
        user: "alice".into(),
        role: Role::Member,
        token_id: "1".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    let number = core.tasks.number(&caller, "t").unwrap();
    let attempt = core.tasks.step(number, Event::Claim, |_, effect| match effect {
        Effect::Send(attempt) => attempt,
        other => panic!("{other:?}"),
    });
    end_on_panic(core.clone(), number, attempt.unwrap(), async { panic!("a prompt") }).await;
    eventually("its end is written", async || {
        let task = core.store.task("t").await.unwrap();
        task.is_some_and(|task| task.state == TaskStatus::Error && task.error.as_deref() == Some(CRASHED))
    })
    .await;
    drop(core);
    hub.stop().await;
}
