//! The state machine of an inference, durable or not. Pure.
//!
//! A task is sent out by attempts. Events of an attempt have an effect only while the attempt is the current one and the task
//! has not ended. The first event that ends a task wins; later ones are [`Effect::Late`].

use crate::model::TaskStatus;

/// The number of a claim of a task, from 1: it may take several dispatches, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Attempt(u32);

/// An event in the life of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The task is sent to a publisher with capacity.
    Claim,
    /// A piece of the answer arrived.
    Chunk(Attempt),
    /// The whole answer, or its end mark, arrived.
    Answer(Attempt),
    /// The publisher or its backend reported a failure.
    Fail(Attempt),
    /// The publisher was lost.
    Lose(Attempt),
    /// The caller cancelled the task.
    Cancel,
    /// The token of the caller was revoked or expired.
    Revoke,
    /// The task waited too long, or its target was taken over by another user.
    Expire,
    /// The hub was restarted.
    Restart,
}

/// The effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None: the event has no meaning in this state.
    Nothing,
    /// None: the event is of an attempt that is over, whose publisher gets 410.
    Late,
    /// The task is to be sent, as this attempt.
    Send(Attempt),
    /// The first piece arrived: from now on the task cannot be retried.
    Started,
    /// The task waits again.
    Requeued,
    /// The task ended, with a terminal status.
    Ended {
        state: TaskStatus,
        /// The attempt that is under way and must be cancelled.
        stop: Option<Attempt>,
    },
}

/// The state of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskState {
    status: TaskStatus,
    attempt: Attempt,
}

impl TaskState {
    pub(crate) const fn new() -> Self {
        Self { status: TaskStatus::Pending, attempt: Attempt(0) }
    }

    /// The state of a task from before a restart.
    pub(crate) const fn stored(status: TaskStatus) -> Self {
        Self { status, attempt: Attempt(0) }
    }

    pub(crate) const fn status(self) -> TaskStatus {
        self.status
    }

    /// Whether `attempt` is under way.
    pub(crate) fn is_running(self, attempt: Attempt) -> bool {
        attempt == self.attempt && matches!(self.status, TaskStatus::Claimed | TaskStatus::Running)
    }

    /// Applies an event.
    pub(crate) fn step(&mut self, event: Event) -> Effect {
        use TaskStatus::{Cancelled, Claimed, Completed, Error, Pending, Running};
        match event {
            Event::Claim if self.status == Pending => {
                self.attempt = Attempt(self.attempt.0 + 1);
                self.status = Claimed;
                Effect::Send(self.attempt)
            }
            Event::Chunk(from) | Event::Answer(from) | Event::Fail(from) | Event::Lose(from)
                if !self.is_running(from) =>
            {
                Effect::Late
            }
            Event::Chunk(_) if self.status == Claimed => {
                self.status = Running;
                Effect::Started
            }
            Event::Answer(_) => self.end(Completed, None),
            Event::Lose(_) if self.status == Claimed => {
                self.status = Pending;
                Effect::Requeued
            }
            Event::Fail(_) | Event::Lose(_) => self.end(Error, None),
            Event::Cancel | Event::Revoke if !self.status.is_terminal() => {
                let is_running = matches!(self.status, Claimed | Running);
                let status = if event == Event::Cancel { Cancelled } else { Error };
                self.end(status, is_running.then_some(self.attempt))
            }
            Event::Expire if self.status == Pending => self.end(Error, None),
            // The first piece of a claimed task may be on its way, so the task cannot be sent again.
            Event::Restart if matches!(self.status, Claimed | Running) => self.end(Error, None),
            Event::Claim
            | Event::Chunk(_)
            | Event::Cancel
            | Event::Revoke
            | Event::Expire
            | Event::Restart => Effect::Nothing,
        }
    }

    fn end(&mut self, status: TaskStatus, stop: Option<Attempt>) -> Effect {
        self.status = status;
        Effect::Ended { state: status, stop }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let attempt = (0..4u32).prop_map(Attempt);
        prop_oneof![
            3 => Just(Event::Claim),
            2 => attempt.clone().prop_map(Event::Chunk),
            1 => attempt.clone().prop_map(Event::Answer),
            1 => attempt.clone().prop_map(Event::Fail),
            2 => attempt.prop_map(Event::Lose),
            1 => Just(Event::Cancel),
            1 => Just(Event::Revoke),
            1 => Just(Event::Expire),
            1 => Just(Event::Restart),
        ]
    }

    /// Observes the effects on a task and checks that they are consistent.
    #[derive(Default)]
    struct Observer {
        sent: Vec<Attempt>,
        open: Option<Attempt>,
        started: bool,
        endings: Vec<TaskStatus>,
    }

    impl Observer {
        fn observe(&mut self, event: Event, effect: Effect) {
            match effect {
                Effect::Send(attempt) => {
                    assert!(!self.started, "the task is sent again after its first piece");
                    assert!(self.open.is_none(), "the task is sent to two publishers at once");
                    assert!(!self.sent.contains(&attempt), "an attempt is sent twice");
                    self.sent.push(attempt);
                    self.open = Some(attempt);
                }
                Effect::Started => self.started = true,
                Effect::Requeued => {
                    assert!(!self.started);
                    self.open = None;
                }
                Effect::Ended { state, stop } => {
                    assert!(state.is_terminal());
                    let expected =
                        matches!(event, Event::Cancel | Event::Revoke).then_some(self.open).flatten();
                    assert_eq!(stop, expected, "not exactly the attempt under way is stopped");
                    self.endings.push(state);
                    self.open = None;
                }
                Effect::Nothing | Effect::Late => (),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// P1: for any events in any order, a task ends exactly once and is not sent again after its first piece.
        #[test]
        fn a_task_ends_once_and_is_not_sent_again_after_its_first_piece(
            events in prop::collection::vec(any_event(), 0..40)
        ) {
            let mut state = TaskState::new();
            let mut observer = Observer::default();
            for event in events {
                let before = state;
                let effect = state.step(event);
                if matches!(effect, Effect::Nothing | Effect::Late) {
                    prop_assert_eq!(state, before);
                }
                if before.status().is_terminal() {
                    prop_assert_eq!(state.status(), before.status(), "the state changed after the end");
                }
                observer.observe(event, effect);
                prop_assert_eq!(state.status().is_terminal(), !observer.endings.is_empty());
                prop_assert_eq!(state.status() == TaskStatus::Running, observer.started && observer.endings.is_empty());
                prop_assert_eq!(matches!(state.status(), TaskStatus::Claimed | TaskStatus::Running), observer.open.is_some());
            }
            // From any state, a claim and an answer end the task.
            if let Effect::Send(attempt) = state.step(Event::Claim) {
                observer.observe(Event::Claim, Effect::Send(attempt));
            }
            if let Some(attempt) = observer.open {
                let effect = state.step(Event::Answer(attempt));
                observer.observe(Event::Answer(attempt), effect);
            }
            prop_assert!(state.status().is_terminal());
            prop_assert_eq!(observer.endings.len(), 1);
        }

        #[test]
        fn an_event_of_an_ended_attempt_changes_nothing(late in any_event()) {
            let mut state = TaskState::new();
            let Effect::Send(first) = state.step(Event::Claim) else { panic!("not sent") };
            state.step(Event::Lose(first));
            let Effect::Send(second) = state.step(Event::Claim) else { panic!("not sent") };
            prop_assert_ne!(first, second);
            for event in [Event::Chunk(first), Event::Answer(first), Event::Fail(first), Event::Lose(first)] {
                prop_assert_eq!(state.step(event), Effect::Late);
            }
            prop_assert_eq!(state.step(Event::Answer(second)), Effect::Ended { state: TaskStatus::Completed, stop: None });
            let effect = state.step(late);
            prop_assert!(matches!(effect, Effect::Late | Effect::Nothing), "{:?}", effect);
        }
    }

    #[test]
    fn a_restart_keeps_waiting_tasks_and_ends_sent_tasks() {
        let after = |status| {
            let mut state = TaskState::stored(status);
            state.step(Event::Restart);
            state.status()
        };
        assert_eq!(after(TaskStatus::Pending), TaskStatus::Pending);
        assert_eq!(after(TaskStatus::Claimed), TaskStatus::Error);
        assert_eq!(after(TaskStatus::Running), TaskStatus::Error);
        assert_eq!(after(TaskStatus::Completed), TaskStatus::Completed);
    }

    #[test]
    fn only_a_waiting_task_expires() {
        let mut state = TaskState::new();
        state.step(Event::Claim);
        assert_eq!(state.step(Event::Expire), Effect::Nothing);
        let ended = Effect::Ended { state: TaskStatus::Error, stop: None };
        assert_eq!(TaskState::new().step(Event::Expire), ended);
    }
}
