//! What the callers saw, and what is wrong with it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Everything that callers, backends and processes have to say in the end.
#[derive(Default)]
pub struct Record {
    /// Sentences, each a broken promise.
    violations: RefCell<Vec<String>>,
    outcomes: RefCell<BTreeMap<(&'static str, String), u64>>,
    faults: RefCell<BTreeMap<(&'static str, &'static str), u64>>,
    /// Durable tasks that were accepted.
    pub tasks: RefCell<Vec<TaskRecord>>,
    /// From a signal that ends the hub until it is ready again; open while it is away.
    hub_away: RefCell<Vec<(Instant, Option<Instant>)>>,
    /// Each request, by its nonce, from 1.
    asked: RefCell<Vec<Asked>>,
    /// From when to when something may have held back what a registrar, by its index, was to have or to send.
    delays: RefCell<Vec<(usize, Instant, Option<Instant>)>>,
}

/// How somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that waits for its answer.
    Sync,
    /// A task that the hub keeps.
    Durable,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub at: Instant,
    pub kind: Kind,
    /// When its caller had the first of its answer.
    pub answered: Option<Instant>,
}

/// An accepted durable task, as its caller last saw it.
pub struct TaskRecord {
    pub id: String,
    pub wanted: crate::answers::Wanted,
    pub streaming: bool,
    /// Asked to be taken back.
    pub deleted: bool,
    /// Its end as the caller saw it.
    pub end: Option<String>,
}

/// Most violations that are told: the first ones say what is wrong.
const TOLD: usize = 50;

impl Record {
    pub fn violation(&self, text: impl Into<String>) {
        let text = text.into();
        let mut violations = self.violations.borrow_mut();
        if violations.len() < TOLD {
            println!("VIOLATION: {text}");
            violations.push(text);
        }
    }

    pub fn violations(&self) -> usize {
        self.violations.borrow().len()
    }

    /// A request of this kind ended so.
    pub fn ended(&self, kind: &'static str, outcome: impl Into<String>) {
        *self.outcomes.borrow_mut().entry((kind, outcome.into())).or_default() += 1;
    }

    pub fn injected(&self, whose: &'static str, what: &'static str) {
        *self.faults.borrow_mut().entry((whose, what)).or_default() += 1;
    }

    /// A number for a request that is made now.
    pub fn nonce(&self, kind: Kind) -> u64 {
        let mut asked = self.asked.borrow_mut();
        asked.push(Asked { at: Instant::now(), kind, answered: None });
        asked.len() as u64
    }

    /// The request with this nonce.
    pub fn asked(&self, nonce: u64) -> Asked {
        self.asked.borrow()[usize::try_from(nonce).unwrap() - 1]
    }

    /// Something of its answer is there.
    pub fn answered(&self, nonce: u64) {
        let asked = &mut self.asked.borrow_mut()[usize::try_from(nonce).unwrap() - 1];
        asked.answered.get_or_insert_with(Instant::now);
    }

    /// How long after the first request that was.
    pub fn time(&self, at: Instant) -> Duration {
        self.asked.borrow().first().map_or(Duration::ZERO, |first| at.saturating_duration_since(first.at))
    }

    /// From now on things may be late at this registrar; gives what to say when it is over.
    pub fn delays(&self, index: usize) -> usize {
        let mut delays = self.delays.borrow_mut();
        delays.push((index, Instant::now(), None));
        delays.len() - 1
    }

    pub fn delay_is_over(&self, number: usize) {
        self.delays.borrow_mut()[number].2 = Some(Instant::now());
    }

    /// Whether things may have been late at this registrar in that time.
    pub fn was_late(&self, index: usize, from: Instant, until: Instant) -> bool {
        self.delays.borrow().iter().any(|(whose, start, end)| {
            *whose == index && *start <= until && end.is_none_or(|end| end >= from)
        })
    }

    pub fn hub_goes(&self) {
        self.hub_away.borrow_mut().push((Instant::now(), None));
    }

    pub fn hub_is_back(&self) {
        if let Some((_, until)) = self.hub_away.borrow_mut().last_mut() {
            *until = Some(Instant::now());
        }
    }

    /// Whether the hub was ended, or away, at some time since then.
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
