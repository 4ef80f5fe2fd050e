//! What the backends ran, and whether any of it should not have run.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
#[cfg(test)]
use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Kind, Record};

/// One request that reached a backend.
pub struct Run {
    pub backend: usize,
    /// Which life its registrar was in: the key that it has in this life says so.
    pub life: u32,
    pub number: u64,
    pub started: Instant,
}

/// What all backends ran.
#[derive(Default)]
pub struct Runs {
    by_nonce: RefCell<BTreeMap<u64, Vec<Run>>>,
    count: Cell<u64>,
    /// Requests that are neither answered nor dropped.
    pub open: Cell<usize>,
}

impl Runs {
    /// A request has come to a backend; gives the number of its run.
    pub fn begin(&self, nonce: u64, backend: usize, life: u32) -> u64 {
        let number = self.count.get() + 1;
        self.count.set(number);
        let run = Run { backend, life, number, started: Instant::now() };
        self.by_nonce.borrow_mut().entry(nonce).or_default().push(run);
        number
    }

    pub fn of<T>(&self, nonce: u64, look: impl FnOnce(&[Run]) -> T) -> T {
        look(self.by_nonce.borrow().get(&nonce).map_or(&[], Vec::as_slice))
    }

    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Judges all of them, in the end.
    pub fn check(&self, record: &Record) {
        for (nonce, runs) in &*self.by_nonce.borrow() {
            if let Some(wrong) =
                twice(record, *nonce, runs).or_else(|| after_the_answer(record, *nonce, runs))
            {
                let all: Vec<_> = runs
                    .iter()
                    .map(|run| {
                        format!("{:.3?} at {} (life {})", record.time(run.started), run.backend, run.life)
                    })
                    .collect();
                record.violation(format!(
                    "P1: request {nonce}, asked at {:.3?}, {wrong}; its runs: {}",
                    record.time(record.asked(*nonce).at),
                    all.join(", ")
                ));
            }
        }
    }
}

/// For one call each member is tried once, and an id that comes twice runs once, in each life of a registrar. A
/// durable task may be sent out again by a hub that was away.
fn twice(record: &Record, nonce: u64, runs: &[Run]) -> Option<String> {
    if record.asked(nonce).kind == Kind::Durable {
        return None;
    }
    let mut members: Vec<_> = runs.iter().map(|run| (run.backend, run.life)).collect();
    members.sort_unstable();
    members.windows(2).any(|pair| pair[0] == pair[1]).then(|| "ran twice at one backend".to_owned())
}

/// Nobody begins on a request whose answer has begun. One exception: what was on its way to a registrar, or from it to
/// its backend, when everything there stood still, arrives when it goes on, though its hub has long turned to another.
/// No program can help that.
fn after_the_answer(record: &Record, nonce: u64, runs: &[Run]) -> Option<String> {
    let asked = record.asked(nonce);
    let first = asked.answered?;
    let again = runs
        .iter()
        .find(|run| run.started > first && !record.was_late(run.backend, asked.at, run.started))?;
    Some(format!("ran again, at backend {}, {:?} after its first byte", again.backend, again.started - first))
}

#[test]
fn two_runs_of_one_call_are_seen_and_those_of_another_life_or_member_are_not() {
    let record = Record::default();
    let run = |(backend, life)| Run { backend, life, number: 1, started: Instant::now() };
    let is_wrong = |kind, other| twice(&record, record.nonce(kind), &[run((1, 1)), run(other)]).is_some();
    assert!(is_wrong(Kind::Sync, (1, 1)));
    assert!(
        !is_wrong(Kind::Sync, (1, 2)) && !is_wrong(Kind::Sync, (2, 1)) && !is_wrong(Kind::Durable, (1, 1))
    );
}

#[test]
fn a_run_after_the_first_byte_is_seen_unless_something_held_it_back() {
    let record = Record::default();
    let nonce = record.nonce(Kind::Sync);
    let early = Run { backend: 1, life: 1, number: 1, started: Instant::now() };
    record.answered(nonce);
    let late = Run { backend: 2, life: 1, number: 2, started: Instant::now() + Duration::from_secs(1) };
    let runs = [early, late];
    assert!(after_the_answer(&record, nonce, &runs[..1]).is_none());
    assert!(after_the_answer(&record, nonce, &runs).is_some());
    record.delays(3);
    assert!(after_the_answer(&record, nonce, &runs).is_some(), "another registrar's delay");
    record.delays(2);
    assert!(after_the_answer(&record, nonce, &runs).is_none());
}
