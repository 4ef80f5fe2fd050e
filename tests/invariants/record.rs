//! Records what callers and backends saw, and the violated promises.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Everything that callers, backends and processes report.
#[derive(Default)]
pub struct Record {
    /// Violated promises, one sentence each.
    violations: RefCell<Vec<String>>,
    outcomes: RefCell<BTreeMap<(&'static str, String), u64>>,
    faults: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    /// Accepted durable tasks.
    pub tasks: RefCell<Vec<TaskRecord>>,
    /// Times without a hub: from the signal that ends the hub until the next one is ready; `None` while it is away.
    hub_away: RefCell<Vec<(Instant, Option<Instant>)>>,
    /// Every request. The nonce of a request is its index plus 1.
    asked: RefCell<Vec<Asked>>,
    /// Times in which messages from or to a registrar may have been delayed: the registrar's index, start and end.
    delays: RefCell<Vec<(usize, Instant, Option<Instant>)>>,
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that waits for its answer.
    Sync,
    /// A durable task.
    Durable,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    pub kind: Kind,
    /// When the caller received the first part of the answer.
    pub answered: Option<Instant>,
}

/// An accepted durable task, as its caller last saw it.
pub struct TaskRecord {
    pub id: String,
    pub wanted: crate::answers::Wanted,
    pub streaming: bool,
    /// Whether its caller deleted the task.
    pub deleted: bool,
    /// The final state that the caller saw.
    pub end: Option<String>,
}

/// Limit for printed violations: the first ones are enough to find the cause.
const PRINTED: usize = 50;

impl Record {
    pub fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        let mut violations = self.violations.borrow_mut();
        if violations.len() < PRINTED {
            println!("VIOLATION: {text}");
            violations.push(text);
        }
    }

    pub fn violations(&self) -> usize {
        self.violations.borrow().len()
    }

    /// Counts how a request of this kind ended.
    pub fn ended(&self, kind: &'static str, outcome: impl Into<String>) {
        *self.outcomes.borrow_mut().entry((kind, outcome.into())).or_default() += 1;
    }

    pub fn injected(&self, whose: &'static str, what: &'static str) {
        *self.faults.borrow_mut().entry((whose, what)).or_default() += 1;
    }

    /// Records a request that begins now, and returns its nonce.
    pub fn nonce(&self, kind: Kind) -> u64 {
        let mut asked = self.asked.borrow_mut();
        asked.push(Asked { at: Instant::now(), kind, answered: None });
        asked.len() as u64
    }

    /// Returns the request with this nonce.
    pub fn asked(&self, nonce: u64) -> Asked {
        self.asked.borrow()[usize::try_from(nonce).unwrap() - 1]
    }

    /// Records the time of the first part of the answer.
    pub fn answered(&self, nonce: u64) {
        let asked = &mut self.asked.borrow_mut()[usize::try_from(nonce).unwrap() - 1];
        asked.answered.get_or_insert_with(Instant::now);
    }

    /// Time from the first request to `at`.
    pub fn time(&self, at: Instant) -> Duration {
        self.asked.borrow().first().map_or(Duration::ZERO, |first| at.saturating_duration_since(first.at))
    }

    /// Records that messages of this registrar may be delayed from now on. Returns the number for `delay_is_over`.
    pub fn delays(&self, index: usize) -> usize {
        let mut delays = self.delays.borrow_mut();
        delays.push((index, Instant::now(), None));
        delays.len() - 1
    }

    pub fn delay_is_over(&self, number: usize) {
        self.delays.borrow_mut()[number].2 = Some(Instant::now());
    }

    /// Whether messages of this registrar may have been delayed at some time between `from` and `until`.
    pub fn was_late(&self, index: usize, from: Instant, until: Instant) -> bool {
        self.delays.borrow().iter().any(|(whose, start, end)| {
            *whose == index && *start <= until && end.is_none_or(|end| end >= from)
        })
    }

    pub fn hub_ends(&self) {
        self.hub_away.borrow_mut().push((Instant::now(), None));
    }

    pub fn hub_is_back(&self) {
        if let Some((_, until)) = self.hub_away.borrow_mut().last_mut() {
            *until = Some(Instant::now());
        }
    }

    /// Whether the hub was ending or away at some time after `since`.
    pub fn hub_was_away(&self, since: Instant) -> bool {
        self.hub_away.borrow().last().is_some_and(|(_, until)| until.is_none_or(|until| until >= since))
    }

    pub fn report(&self) {
        println!("requests");
        for ((kind, outcome), count) in self.outcomes.borrow().iter() {
            println!("  {kind:<16} {outcome:<44} {count:>8}");
        }
        println!("faults");
        for ((whose, what), count) in self.faults.borrow().iter() {
            println!("  {whose:<20} {what:<40} {count:>8}");
        }
    }
}
