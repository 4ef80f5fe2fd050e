//! How many tasks a provider wants beyond those that run. The hub keeps the line of callers, so a slot that is free is idle until
//! the hub has heard of it and its next task has come. A task that is sent ahead fills that gap, and makes others wait for it.

use std::time::Duration;

use crate::status::ProviderReport;

/// A slot that is idle for less than this part of its time needs no task ahead.
const PART: u32 = 50;
/// The round trip to the hub if it is not measured.
const UNKNOWN: Duration = Duration::from_millis(50);

/// As many tasks as end within a round trip to the hub; none if that is short beside a task.
pub(super) fn ahead(report: &ProviderReport, round_trip: Option<Duration>) -> u32 {
    let round_trip = round_trip.unwrap_or(UNKNOWN);
    let slots = report.status.max_concurrency;
    match report.pace.task_time {
        Some(task_time) if round_trip * PART > task_time => {
            let ended = round_trip.as_nanos() * u128::from(slots);
            let ended = ended.div_ceil(task_time.as_nanos().max(1));
            u32::try_from(ended).unwrap_or(u32::MAX).min(slots).min(report.pace.max_queue)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::status::Pace;

    #[test]
    fn short_tasks_behind_a_long_way_are_sent_ahead() {
        let ahead = |task_millis: Option<u64>, max_queue, round_trip: Option<u64>| {
            let pace = Pace { task_time: task_millis.map(Duration::from_millis), max_queue };
            let report = ProviderReport { pace, ..report("a", 4) };
            ahead(&report, round_trip.map(Duration::from_millis))
        };
        assert_eq!(ahead(Some(10_000), 64, Some(50)), 0, "a slot is idle for half a percent");
        assert_eq!(ahead(Some(1000), 64, Some(50)), 1);
        assert_eq!(ahead(Some(100), 64, Some(50)), 2);
        assert_eq!(ahead(Some(20), 64, Some(50)), 4, "no more than run");
        assert_eq!(ahead(Some(20), 3, Some(50)), 3, "no more than may wait");
        assert_eq!(ahead(Some(20), 0, Some(50)), 0);
        assert_eq!(ahead(Some(0), 64, Some(0)), 0);
        assert_eq!(ahead(Some(100), 64, None), 2, "the way is not known");
        assert_eq!(ahead(None, 64, Some(50)), 0, "no task has ended");
    }
}
