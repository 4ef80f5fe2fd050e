//! The runs of requests at the backends, and the check that no request ran when it must not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
#[cfg(test)]
use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Kind, Record};

/// A request that reached a backend.
pub struct Run {
    pub backend: usize,
    /// How often its registrar had been started, from the API key in the request.
    pub life: u32,
    pub number: u64,
    pub started: Instant,
}

/// The runs at all backends.
#[derive(Default)]
pub struct Runs {
    by_nonce: RefCell<BTreeMap<u64, Vec<Run>>>,
    count: Cell<u64>,
    /// Number of requests that are neither answered nor dropped.
    pub open: Cell<usize>,
}

impl Runs {
    /// Records that a request reached a backend. Returns the number of the run.
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

    /// Checks all runs at the end of the test.
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

/// Describes a request that ran twice where it must not. A call runs at most once at each member of a pool and in each life
/// of a registrar. A hub that was away may dispatch a durable task again.
fn twice(record: &Record, nonce: u64, runs: &[Run]) -> Option<String> {
    if record.asked(nonce).kind == Kind::Durable {
        return None;
    }
    let mut members: Vec<_> = runs.iter().map(|run| (run.backend, run.life)).collect();
    members.sort_unstable();
    members.windows(2).any(|pair| pair[0] == pair[1]).then(|| "ran twice at one backend".to_owned())
}

/// Describes a run that began after the caller had the first byte of the answer. One exception is unavoidable: a task that was
/// on its way to a paused registrar, or from it to its backend, arrives when the registrar continues, although the hub has
/// tried another member since.
fn after_the_answer(record: &Record, nonce: u64, runs: &[Run]) -> Option<String> {
    let asked = record.asked(nonce);
    let first = asked.answered?;
    let again = runs
        .iter()
        .find(|run| run.started > first && !record.was_late(run.backend, asked.at, run.started))?;
    Some(format!("ran again, at backend {}, {:?} after its first byte", again.backend, again.started - first))
}

#[test]
fn twice_reports_two_runs_in_one_life_but_not_in_two_lives_or_members() {
    let record = Record::default();
    let run = |(backend, life)| Run { backend, life, number: 1, started: Instant::now() };
    let is_wrong = |kind, other| twice(&record, record.nonce(kind), &[run((1, 1)), run(other)]).is_some();
    assert!(is_wrong(Kind::Sync, (1, 1)));
    assert!(
        !is_wrong(Kind::Sync, (1, 2)) && !is_wrong(Kind::Sync, (2, 1)) && !is_wrong(Kind::Durable, (1, 1))
    );
}

#[test]
fn a_run_after_the_first_byte_is_reported_unless_its_registrar_was_delayed() {
    let record = Record::default();
    let nonce = record.nonce(Kind::Sync);
    let early = Run { backend: 1, life: 1, number: 1, started: Instant::now() };
    record.answered(nonce);
    let late = Run { backend: 2, life: 1, number: 2, started: Instant::now() + Duration::from_secs(1) };
    let runs = [early, late];
    assert!(after_the_answer(&record, nonce, &runs[..1]).is_none());
    assert!(after_the_answer(&record, nonce, &runs).is_some());
    record.delays(3);
    assert!(after_the_answer(&record, nonce, &runs).is_some(), "a delay of another registrar is no excuse");
    record.delays(2);
    assert!(after_the_answer(&record, nonce, &runs).is_none());
}
