//! What a process has worked.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longer than the dearest call of these tests takes in a debug build.
const PATIENCE: Duration = Duration::from_mins(2);

/// What each thread has run so far, in nanoseconds.
type Ran = HashMap<String, u64>;

/// A process whose work is counted.
#[derive(Debug, Clone, Copy)]
pub struct Meter(pub i32);

impl Meter {
    fn read(self) -> Ran {
        let mut ran = Ran::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.0)).unwrap() {
            let path = thread.unwrap().path();
            // A thread may end between the two reads.
            let Ok(stat) = fs::read_to_string(path.join("schedstat")) else { continue };
            let first = stat.split_whitespace().next().unwrap();
            ran.insert(path.file_name().unwrap().to_string_lossy().into_owned(), first.parse().unwrap());
        }
        ran
    }

    /// The same, when nothing runs any more.
    pub async fn rests(self) -> Ran {
        let (mut ran, deadline) = (self.read(), Instant::now() + PATIENCE);
        loop {
            sleep(Duration::from_millis(2)).await;
            let now = self.read();
            if now == ran {
                return ran;
            }
            assert!(Instant::now() < deadline, "process {} has not rested for {PATIENCE:?}", self.0);
            ran = now;
        }
    }

    /// Waits until it has next to nothing to do.
    pub async fn idles(self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = self.read();
            sleep(Duration::from_millis(300)).await;
            if self.since(&before).await < 0.01 {
                return;
            }
            assert!(Instant::now() < deadline, "process {} has worked for {PATIENCE:?}", self.0);
        }
    }

    /// What was run since `before`, in seconds. A thread that ended meanwhile had nothing to do.
    pub async fn since(self, before: &Ran) -> f64 {
        let ran = self.rests().await;
        let nanos: u64 =
            ran.iter().map(|(id, now)| now - before.get(id).copied().unwrap_or(0).min(*now)).sum();
        Duration::from_nanos(nanos).as_secs_f64()
    }
}
