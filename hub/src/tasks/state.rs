//! The life of one inference, durable or not, as a pure reducer. Every rule about what may follow what is here.
//!
//! A task is sent out by attempts. What an attempt says counts only while it is the task's current one and the task
//! has not ended: the first ending wins, and what comes later is `Late` and changes nothing.

use crate::model::TaskStatus;

/// One dispatch of a task, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attempt(u32);

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A publisher with room takes it.
    Claim,
    /// A piece of the answer came, the first or a later one.
    Chunk(Attempt),
    /// The whole answer, or its end mark, came.
    Answer(Attempt),
    /// The publisher, or the backend through it, said that it failed.
    Fail(Attempt),
    /// The publisher was lost.
    Lose(Attempt),
    /// The caller does not want it any more.
    Cancel,
    /// The token that sent it does not count any more.
    Revoke,
    /// It waited for too long.
    Expire,
    /// The hub started again and finds the task as it was.
    Restart,
}

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the event has no meaning in this state.
    Nothing,
    /// It came from an attempt that is over: its sender is told that nobody waits (410).
    Late,
    /// Send it out, as this attempt.
    Send(Attempt),
    /// Its first byte is there: from now on it cannot be tried again.
    Started,
    /// Back to its place in the queue.
    Requeued,
    /// Its one ending. With an attempt: that one is still at work and must be told to stop.
    Ended {
        /// A terminal state.
        state: TaskStatus,
        /// Who is to be stopped.
        stop: Option<Attempt>,
    },
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskState {
    state: TaskStatus,
    attempt: Attempt,
}

impl TaskState {
    /// A task that just came in.
    pub const fn new() -> Self {
        Self { state: TaskStatus::Pending, attempt: Attempt(0) }
    }

    /// A task as the store has it.
    pub const fn stored(state: TaskStatus) -> Self {
        Self { state, attempt: Attempt(0) }
    }

    /// Where it is.
    pub const fn state(&self) -> TaskStatus {
        self.state
    }

    /// Whether it is out as this attempt, and has not ended.
    pub fn is_at_work(&self, attempt: Attempt) -> bool {
        attempt == self.attempt && matches!(self.state, TaskStatus::Claimed | TaskStatus::Running)
    }

    /// Takes one event in.
    pub fn step(&mut self, event: Event) -> Effect {
        use TaskStatus::{Cancelled, Claimed, Completed, Error, Pending, Running};
        match event {
            Event::Claim if self.state == Pending => {
                self.attempt = Attempt(self.attempt.0 + 1);
                self.state = Claimed;
                Effect::Send(self.attempt)
            }
            Event::Chunk(from) | Event::Answer(from) | Event::Fail(from) | Event::Lose(from)
                if !self.is_at_work(from) =>
            {
                Effect::Late
            }
            Event::Chunk(_) if self.state == Claimed => {
                self.state = Running;
                Effect::Started
            }
            Event::Answer(_) => self.end(Completed, None),
            Event::Lose(_) if self.state == Claimed => {
                self.state = Pending;
                Effect::Requeued
            }
            Event::Fail(_) | Event::Lose(_) => self.end(Error, None),
            Event::Cancel | Event::Revoke if !self.state.is_terminal() => {
                let at_work = matches!(self.state, Claimed | Running);
                let state = if event == Event::Cancel { Cancelled } else { Error };
                self.end(state, at_work.then_some(self.attempt))
            }
            Event::Expire if self.state == Pending => self.end(Error, None),
            // A claimed one may have been worked on for long: whether its first byte is on the way nobody knows any
            // more, so it counts as if it were.
            Event::Restart if matches!(self.state, Claimed | Running) => self.end(Error, None),
            Event::Claim
            | Event::Chunk(_)
            | Event::Cancel
            | Event::Revoke
            | Event::Expire
            | Event::Restart => Effect::Nothing,
        }
    }

    fn end(&mut self, state: TaskStatus, stop: Option<Attempt>) -> Effect {
        self.state = state;
        Effect::Ended { state, stop }
    }
}

impl Default for TaskState {
    fn default() -> Self {
        Self::new()
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

    /// What one can see of a task from outside.
    #[derive(Default)]
    struct Seen {
        sent: Vec<Attempt>,
        open: Option<Attempt>,
        started: bool,
        endings: Vec<TaskStatus>,
    }

    impl Seen {
        fn take(&mut self, event: Event, effect: Effect) {
            match effect {
                Effect::Send(attempt) => {
                    assert!(!self.started, "sent again after its first byte");
                    assert!(self.open.is_none(), "with two publishers at once");
                    assert!(!self.sent.contains(&attempt), "an attempt twice");
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
                    let told = matches!(event, Event::Cancel | Event::Revoke).then_some(self.open).flatten();
                    assert_eq!(stop, told, "whoever still works is stopped, nobody else is");
                    self.endings.push(state);
                    self.open = None;
                }
                Effect::Nothing | Effect::Late => (),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// P1: whatever happens, in whatever order.
        #[test]
        fn whatever_happens_a_task_ends_exactly_once_and_never_runs_again_after_its_first_byte(
            events in prop::collection::vec(any_event(), 0..40)
        ) {
            let mut life = TaskState::new();
            let mut seen = Seen::default();
            for event in events {
                let before = life;
                let effect = life.step(event);
                if matches!(effect, Effect::Nothing | Effect::Late) {
                    prop_assert_eq!(life, before);
                }
                if before.state().is_terminal() {
                    prop_assert_eq!(life.state(), before.state(), "a new state after the end");
                }
                seen.take(event, effect);
                prop_assert_eq!(life.state().is_terminal(), !seen.endings.is_empty());
                prop_assert_eq!(life.state() == TaskStatus::Running, seen.started && seen.endings.is_empty());
                prop_assert_eq!(matches!(life.state(), TaskStatus::Claimed | TaskStatus::Running), seen.open.is_some());
            }
            // Nothing is lost: from wherever it is, an ordinary course of things ends it.
            if let Effect::Send(attempt) = life.step(Event::Claim) {
                seen.take(Event::Claim, Effect::Send(attempt));
            }
            if let Some(attempt) = seen.open {
                let effect = life.step(Event::Answer(attempt));
                seen.take(Event::Answer(attempt), effect);
            }
            prop_assert!(life.state().is_terminal());
            prop_assert_eq!(seen.endings.len(), 1);
        }

        #[test]
        fn an_attempt_that_is_over_changes_nothing(late in any_event()) {
            let mut life = TaskState::new();
            let Effect::Send(first) = life.step(Event::Claim) else { panic!("not sent") };
            life.step(Event::Lose(first));
            let Effect::Send(second) = life.step(Event::Claim) else { panic!("not sent") };
            prop_assert_ne!(first, second);
            for event in [Event::Chunk(first), Event::Answer(first), Event::Fail(first), Event::Lose(first)] {
                prop_assert_eq!(life.step(event), Effect::Late);
            }
            prop_assert_eq!(life.step(Event::Answer(second)), Effect::Ended { state: TaskStatus::Completed, stop: None });
            let effect = life.step(late);
            prop_assert!(matches!(effect, Effect::Late | Effect::Nothing), "{:?}", effect);
        }
    }

    #[test]
    fn a_restart_keeps_what_waits_and_ends_what_was_sent_out() {
        let after = |state| {
            let mut life = TaskState::stored(state);
            life.step(Event::Restart);
            life.state()
        };
        assert_eq!(after(TaskStatus::Pending), TaskStatus::Pending);
        assert_eq!(after(TaskStatus::Claimed), TaskStatus::Error);
        assert_eq!(after(TaskStatus::Running), TaskStatus::Error);
        assert_eq!(after(TaskStatus::Completed), TaskStatus::Completed);
    }

    #[test]
    fn only_a_task_that_waits_expires() {
        let mut life = TaskState::new();
        life.step(Event::Claim);
        assert_eq!(life.step(Event::Expire), Effect::Nothing);
        let ended = Effect::Ended { state: TaskStatus::Error, stop: None };
        assert_eq!(TaskState::new().step(Event::Expire), ended);
    }
}
