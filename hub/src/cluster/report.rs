//! What each process says of itself: in its beats, and with each renewal of its lease, so that it is known without NATS, too.
//!
//! By what the others say a hub decides whether it should get calls. What is broken for all is no reason to send callers away: a
//! load balancer would have no hub left.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Process;

/// Time by which another hub has to have had something after this one lost it: all that lose it together notice it within
/// this time.
const MARGIN: Duration = Duration::from_secs(3);
/// Time for which a hub serves without NATS and the database: it does not learn which tokens were revoked.
const ISLAND_FOR: Duration = Duration::from_mins(5);

/// What a process says of itself. Keys that are missing are those of an older version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    pub version: String,
    /// Whether it takes no new calls.
    pub is_draining: bool,
    /// Whether its own beats come back through NATS.
    pub has_nats: bool,
    /// Whether it could renew its lease.
    pub has_database: bool,
    /// Control channels of registrars.
    pub channels: u64,
    /// Inferences that run or wait.
    pub calls: u64,
    /// Digest of its rows, agents and aliases, equal at all hubs of a version that have the same.
    pub table: Option<String>,
}

/// What a process said last.
#[derive(Debug, Clone)]
pub struct Heard {
    pub report: Report,
    /// Time since it said that.
    pub age: Duration,
}

/// Why a hub should get no calls now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutOff {
    #[error("this hub does not reach NATS, and others do")]
    Nats,
    #[error("this hub does not reach the database, and others do")]
    Database,
    #[error("this hub has reached neither NATS nor the database for 5 minutes")]
    Both,
}

/// For how long this process has been without NATS and without the database; `None` if it has it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Without {
    pub nats: Option<Duration>,
    pub database: Option<Duration>,
}

impl Without {
    /// Why this hub should get no calls, by what the others say.
    pub fn cut_off(self, others: &[Heard]) -> Option<CutOff> {
        let others_have = |lost: Option<Duration>, has: fn(&Report) -> bool| {
            let lost = lost.unwrap_or_default();
            others.iter().any(|of| has(&of.report) && !of.report.is_draining && of.age + MARGIN < lost)
        };
        if others_have(self.nats, |report| report.has_nats) {
            return Some(CutOff::Nats);
        }
        if others_have(self.database, |report| report.has_database) {
            return Some(CutOff::Database);
        }
        let is_island =
            self.nats.zip(self.database).is_some_and(|(nats, database)| nats.min(database) > ISLAND_FOR);
        is_island.then_some(CutOff::Both)
    }
}

/// What is exchanged with each renewal of the lease.
#[derive(Debug)]
pub struct Reports {
    inner: Mutex<Exchanged>,
}

#[derive(Debug)]
struct Exchanged {
    own: Report,
    /// Reports of other processes with a lease, and when they were given.
    others: HashMap<Process, (Report, Instant)>,
    /// Since when the lease could not be renewed.
    lost: Option<Instant>,
    /// Since when it is renewed without a gap.
    steady: Instant,
}

impl Default for Reports {
    fn default() -> Self {
        let inner =
            Exchanged { own: Report::default(), others: HashMap::new(), lost: None, steady: Instant::now() };
        Self { inner: Mutex::new(inner) }
    }
}

impl Reports {
    /// Sets what this process says of itself from now on.
    pub fn say(&self, report: Report) {
        self.inner.lock().own = report;
    }

    pub fn own(&self) -> Report {
        self.inner.lock().own.clone()
    }

    /// The lease was renewed; `others` are what the other processes said, and how long ago.
    pub fn renewed(&self, others: Vec<(Process, Report, Duration)>) {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        if inner.lost.take().is_some() {
            inner.steady = now;
        }
        // An age that reaches behind the start of the machine is that of a process that is not there.
        let heard =
            others.into_iter().filter_map(|(of, report, age)| Some((of, (report, now.checked_sub(age)?))));
        inner.others = heard.collect();
    }

    /// The lease could not be renewed.
    pub fn failed(&self) {
        self.inner.lock().lost.get_or_insert_with(Instant::now);
    }

    /// Time for which this process has been without the database.
    pub fn without_database(&self) -> Option<Duration> {
        self.inner.lock().lost.map(|since| since.elapsed())
    }

    /// Time for which the lease has been renewed without a gap; zero while it is not.
    pub fn steady_for(&self) -> Duration {
        let inner = self.inner.lock();
        if inner.lost.is_some() { Duration::ZERO } else { inner.steady.elapsed() }
    }

    /// What the other processes with a lease said.
    pub fn others(&self) -> HashMap<Process, Heard> {
        let inner = self.inner.lock();
        let heard = |(report, at): &(Report, Instant)| Heard { report: report.clone(), age: at.elapsed() };
        inner.others.iter().map(|(process, said)| (*process, heard(said))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(age: u64, report: Report) -> Heard {
        Heard { report, age: Duration::from_secs(age) }
    }

    fn all() -> Report {
        Report { has_nats: true, has_database: true, ..Report::default() }
    }

    fn without(nats: u64, database: u64) -> Without {
        let time = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        Without { nats: time(nats), database: time(database) }
    }

    /// What is away for all hubs sends no callers away.
    #[test]
    fn a_hub_is_cut_off_only_from_what_others_have() {
        let nothing = Report::default();
        for (lost, others, expected) in [
            (without(0, 0), vec![said(0, all())], None),
            // It has just lost NATS: the others may not have noticed yet.
            (without(3, 0), vec![said(0, all())], None),
            (without(4, 0), vec![said(0, all())], Some(CutOff::Nats)),
            (without(0, 4), vec![said(0, all())], Some(CutOff::Database)),
            // What they said before they lost it as well.
            (without(60, 0), vec![said(58, all())], None),
            (without(60, 60), vec![said(1, nothing.clone()), said(2, nothing)], None),
            (without(60, 60), vec![], None),
            (without(301, 60), vec![], None),
            (without(301, 302), vec![], Some(CutOff::Both)),
            // One that stops takes nobody's calls.
            (without(60, 0), vec![said(0, Report { is_draining: true, ..all() })], None),
        ] {
            assert_eq!(lost.cut_off(&others), expected, "{lost:?} {others:?}");
        }
    }

    #[test]
    fn a_report_of_another_version_is_read() {
        let text = r#"{ "version": "9", "hasNats": true, "more": 1 }"#;
        let read: Report = serde_json::from_str(text).unwrap();
        assert_eq!(read, Report { version: "9".into(), has_nats: true, ..Report::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_steady_from_its_first_renewal_after_a_gap() {
        let (reports, second) = (Reports::default(), Duration::from_secs(1));
        tokio::time::advance(9 * second).await;
        assert_eq!((reports.steady_for(), reports.without_database()), (9 * second, None));
        reports.failed();
        tokio::time::advance(second).await;
        reports.failed();
        assert_eq!((reports.steady_for(), reports.without_database()), (Duration::ZERO, Some(second)));
        let other = Process::parse("b.abcdef").unwrap();
        reports.renewed(vec![(other, all(), 2 * second)]);
        tokio::time::advance(second).await;
        assert_eq!((reports.steady_for(), reports.without_database()), (second, None));
        assert_eq!(reports.others()[&other].age, 3 * second);
    }
}
