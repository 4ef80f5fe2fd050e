//! Measures the CPU time that a process has used.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use testkit::wait::wait_within;
use tokio::time::sleep;

/// Deadline for a process to become idle; longer than the most expensive call of these tests takes in a debug build.
const PATIENCE: Duration = Duration::from_mins(2);

/// CPU time of each thread so far, in nanoseconds, by thread id.
type CpuTimes = HashMap<String, u64>;

/// Measures the process with this pid.
#[derive(Debug, Clone, Copy)]
pub struct Meter(pub i32);

impl Meter {
    fn read(self) -> CpuTimes {
        let mut times = CpuTimes::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.0)).unwrap() {
            let path = thread.unwrap().path();
            // A thread may end after the directory was listed.
            let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
            let first = stat.split_whitespace().next().unwrap();
            times.insert(path.file_name().unwrap().to_string_lossy().into_owned(), first.parse().unwrap());
        }
        times
    }

    /// Waits until no thread has run between two looks, and returns the CPU times.
    pub async fn times_at_rest(self) -> CpuTimes {
        let mut last = CpuTimes::new();
        wait_within(PATIENCE, "the process is at rest", async || {
            let before = std::mem::replace(&mut last, self.read());
            (before == last).then_some(before)
        })
        .await
    }

    /// Waits until the process uses less than 10 ms of CPU time in 300 ms.
    pub async fn wait_until_idle(self) {
        wait_within(PATIENCE, "the process is idle", async || {
            let before = self.read();
            // The time in which the use is measured.
            sleep(Duration::from_millis(300)).await;
            (self.since(&before).await < 0.01).then_some(())
        })
        .await;
    }

    /// CPU time used since `before`, in seconds. A thread that has ended since does not count; it was idle.
    pub async fn since(self, before: &CpuTimes) -> f64 {
        let times = self.times_at_rest().await;
        let nanos: u64 =
            times.iter().map(|(id, now)| now - before.get(id).copied().unwrap_or(0).min(*now)).sum();
        Duration::from_nanos(nanos).as_secs_f64()
    }
}
