//! When backends are asked what their models can do, and what the hub learns of it.

use std::cell::{Cell, RefCell};

use wire::Abilities;

use super::*;
use crate::session::messages::BackendReturned;

/// A backend whose answers come from the test, and the number of questions.
#[derive(Default)]
struct Scripted {
    answer: Cell<Option<AbilityAnswer>>,
    asked: RefCell<Vec<Instant>>,
}

impl Scripted {
    fn says(&self, context_length: Option<u32>, is_partial: bool) {
        let abilities = Abilities { context_length, ..Abilities::NONE };
        self.answer.set(Some(AbilityAnswer { abilities, is_partial }));
    }

    fn question(self: &Rc<Self>) -> AbilityQuestion {
        let this = Rc::clone(self);
        Rc::new(move |_| {
            this.asked.borrow_mut().push(Instant::now());
            Box::pin(ready(this.answer.get().unwrap_or(AbilityAnswer::UNKNOWN)))
        })
    }

    fn start(self: &Rc<Self>, published: Publish) -> Setup {
        start_asking(ScriptedHub::default(), published, None, 0.0, self.question())
    }
}

impl Setup {
    /// The context length in each register call so far.
    fn contexts(&self) -> Vec<Option<u64>> {
        self.hub.registered().iter().map(|body| body["providers"][0]["contextLength"].as_u64()).collect()
    }
}

#[actix::test]
async fn the_first_registration_has_what_the_backend_says() {
    pause();
    let backend = Rc::new(Scripted::default());
    backend.says(Some(8192), false);
    let setup = backend.start(published(&["a"]));
    pass(3_600 * SECOND).await;
    assert_eq!(setup.contexts(), [Some(8192)]);
    setup.actor.do_send(Register);
    pass(SECOND).await;
    assert_eq!(setup.contexts(), [Some(8192), Some(8192)]);
    assert_eq!(backend.asked.borrow().len(), 1, "a known answer is asked for again");
}

#[actix::test]
async fn what_the_owner_says_stands_above_the_answer() {
    pause();
    let backend = Rc::new(Scripted::default());
    backend.says(Some(8192), false);
    let abilities = Abilities { context_length: Some(1024), ..Abilities::NONE };
    let config = ProviderConfig { abilities, ..provider("a") };
    let setup = backend.start(Publish { providers: vec![Arc::new(config)], agents: Vec::new() });
    pass(SECOND).await;
    assert_eq!(setup.contexts(), [Some(1024)]);
}

#[actix::test]
async fn a_partial_answer_is_asked_for_again_with_growing_delays() {
    pause();
    let backend = Rc::new(Scripted::default());
    backend.says(None, true);
    let start = Instant::now();
    let setup = backend.start(published(&["a"]));
    pass(100 * SECOND).await;
    backend.says(Some(4096), false);
    pass(3_600 * SECOND).await;
    let seconds: Vec<_> = backend.asked.borrow().iter().map(|at| (*at - start).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 30, 70, 150]);
    assert_eq!(setup.contexts(), [None, Some(4096)]);
}

#[actix::test]
async fn a_backend_that_came_back_is_asked_again_and_a_change_is_registered() {
    pause();
    let backend = Rc::new(Scripted::default());
    backend.says(Some(8192), false);
    let published = published(&["a"]);
    let config = Arc::clone(&published.providers[0]);
    let setup = backend.start(published);
    pass(SECOND).await;
    setup.actor.do_send(BackendReturned(Arc::clone(&config)));
    pass(SECOND).await;
    assert_eq!(setup.contexts(), [Some(8192)], "the same answer is registered again");
    backend.says(Some(2048), false);
    setup.actor.do_send(BackendReturned(config));
    pass(SECOND).await;
    assert_eq!(setup.contexts(), [Some(8192), Some(2048)]);
}

#[actix::test]
async fn changes_are_registered_once_a_minute_at_most() {
    pause();
    let backend = Rc::new(Scripted::default());
    let published = published(&["a"]);
    let config = Arc::clone(&published.providers[0]);
    let setup = backend.start(published);
    pass(SECOND).await;
    for context in 1..=100 {
        backend.says(Some(context), false);
        setup.actor.do_send(BackendReturned(Arc::clone(&config)));
        pass(SECOND).await;
    }
    pass(100 * SECOND).await;
    assert_eq!(setup.contexts().len(), 4, "{:?}", setup.contexts());
    assert_eq!(setup.contexts().last(), Some(&Some(100)));
}

#[actix::test]
async fn a_backend_that_is_not_asked_in_time_is_registered_all_the_same() {
    pause();
    let backend = Rc::new(Scripted::default());
    backend.says(None, true);
    let setup = backend.start(published(&["a"]));
    pass(SECOND).await;
    assert_eq!(setup.contexts(), [None]);
    assert_eq!(setup.ready.borrow().len(), 1);
}
