//! Somebody else's small calls, one after the other, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use testkit::procfs::ran;

use crate::http::Http;
use crate::rig::Hub;

/// Time between two calls: a thousand calls a second notice a stall of a few milliseconds.
const PAUSE: Duration = Duration::from_millis(1);

pub struct Probe {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Probe {
    pub fn start(port: u16, token: &str, path: &'static str) -> Self {
        Self::run(port, token, ["GET", path, ""].map(str::to_owned), None)
    }

    /// The same with POSTs of `body`.
    pub fn posting(port: u16, token: &str, path: &str, body: &str) -> Self {
        Self::run(port, token, ["POST", path, body].map(str::to_owned), None)
    }

    /// As [`start`](Self::start), but limits a call's time to the CPU time that the hub used meanwhile: time that other programs
    /// took does not count.
    pub fn of_work(hub: &Hub, token: &str, path: &'static str) -> Self {
        Self::run(hub.port, token, ["GET", path, ""].map(str::to_owned), Some(hub.pid()))
    }

    fn run(port: u16, token: &str, request: [String; 3], hub: Option<i32>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut http = Http::new(port, token);
        let end = over.clone();
        let thread = spawn(move || {
            let mut times = Vec::new();
            while !end.load(Ordering::Relaxed) {
                let before = hub.map(ran);
                let start = Instant::now();
                assert_eq!(http.call(&request[0], &request[1], &request[2]).0, 200);
                let took = start.elapsed();
                times.push(
                    before.zip(hub).map_or(took, |(before, hub)| took.min(ran(hub).saturating_sub(before))),
                );
                sleep(PAUSE);
            }
            times
        });
        Self { over, thread }
    }

    /// All its times, shortest first.
    pub fn stop(self) -> Vec<Duration> {
        self.over.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().unwrap();
        times.sort_unstable();
        times
    }

    /// The times of `length`.
    pub fn during(port: u16, token: &str, path: &'static str, length: Duration) -> Vec<Duration> {
        let probe = Self::start(port, token, path);
        sleep(length);
        probe.stop()
    }
}

/// The value below which `percent` of the sorted `times` lie.
pub fn quantile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() - 1) * percent / 100]
}

pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
