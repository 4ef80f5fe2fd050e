//! Memory, descriptors, threads and children of a process, from `/proc` (proc(5)).

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::inject::Scene;
use crate::record::Record;
use crate::schedule::VETERANS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    pub descriptors: usize,
    pub threads: usize,
    pub children: usize,
    pub resident: u64,
}

impl Footprint {
    /// Reads the footprint of a process; all fields are 0 if the process has ended.
    pub fn of(pid: i32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let children = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .map(|children| children.split_whitespace().count())
            .sum();
        Self {
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            threads: usize::try_from(field("Threads:")).unwrap(),
            children,
            resident: field("VmRSS:") * 1024,
        }
    }
}

/// Resident memory of one process over time.
#[derive(Default)]
pub struct Course {
    pid: i32,
    samples: Vec<(f64, f64)>,
}

/// Memory over time of the hub and of the registrars that the test never ends, from each start to the next.
#[derive(Default)]
pub struct Memory {
    courses: RefCell<Vec<Course>>,
}

/// Interval between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

impl Memory {
    pub async fn watch(self: Rc<Self>, scene: Rc<Scene>) {
        let start = Instant::now();
        loop {
            let programs = std::iter::once(&scene.hub).chain(&scene.registrars[..VETERANS]);
            {
                let mut courses = self.courses.borrow_mut();
                courses.resize_with(VETERANS + 1, Course::default);
                for (course, program) in courses.iter_mut().zip(programs) {
                    if course.pid != program.pid() {
                        *course = Course { pid: program.pid(), samples: Vec::new() };
                    }
                    let resident = Footprint::of(program.pid()).resident;
                    if resident > 0 {
                        course.samples.push((start.elapsed().as_secs_f64(), resident as f64));
                    }
                }
            }
            sleep(INTERVAL).await;
        }
    }

    /// Reports growing memory: the slope over the second half of a process's life of nine minutes or more. By then the hub's
    /// bounded caches are full: its cache of 16,384 ended dispatches takes three minutes at a hundred dispatches a second.
    /// Earlier, a filling cache would look like a leak.
    pub fn check(&self, record: &Record) {
        for (index, course) in self.courses.borrow().iter().enumerate() {
            let who = if index == 0 { "hub".to_owned() } else { format!("registrar {}", index - 1) };
            let Some((first, last)) = course.samples.first().zip(course.samples.last()) else { continue };
            let most = course.samples.iter().map(|(_, bytes)| *bytes).fold(0.0, f64::max);
            let slope = slope(&course.samples[course.samples.len() / 2..]) * 3600.0 / 1e6;
            let life = last.0 - first.0;
            println!(
                "memory of {who:<14} {:>5.1} MB at first, {:>5.1} MB at last, {:>5.1} MB at most, in a life of {life:>4.0} s; second half {slope:+.1} MB an hour",
                first.1 / 1e6,
                last.1 / 1e6,
                most / 1e6,
            );
            println!("  by the minute: {}", course.by_the_minute());
            if most > MOST {
                record.violation(format!("P7: {who} had {:.0} MB", most / 1e6));
            }
            if life >= LONG && slope > GROWS {
                record.violation(format!("P7: {who} grows by {slope:.1} MB an hour"));
            }
        }
    }
}

impl Course {
    fn by_the_minute(&self) -> String {
        let a_minute = self.samples.iter().step_by(60 / usize::try_from(INTERVAL.as_secs()).unwrap());
        a_minute.map(|(_, bytes)| format!("{:.1}", bytes / 1e6)).collect::<Vec<_>>().join(" ")
    }
}

/// Shortest life of a process, in seconds, whose memory is judged. In its first half the bounded caches fill.
const LONG: f64 = 540.0;
/// Limit for resident memory, in bytes: a debug build with full caches and the requests of 200 callers.
const MOST: f64 = 150e6;
/// Limit for growth, in MB an hour. A hundred requests a second that leak 60 bytes each exceed it.
const GROWS: f64 = 20.0;

/// Slope of the least-squares line through the samples.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let n = samples.len() as f64;
    let (sum_x, sum_y) = samples.iter().fold((0.0, 0.0), |(x, y), sample| (x + sample.0, y + sample.1));
    let (mean_x, mean_y) = (sum_x / n, sum_y / n);
    let (mut up, mut down) = (0.0, 0.0);
    for (x, y) in samples {
        up += (x - mean_x) * (y - mean_y);
        down += (x - mean_x) * (x - mean_x);
    }
    if down == 0.0 { 0.0 } else { up / down }
}

#[test]
fn slope_finds_the_trend_in_noisy_samples() {
    let line: Vec<_> = (0..100).map(|x| (f64::from(x), f64::from(3 * x + 7 * (x % 2)))).collect();
    assert!((slope(&line) - 3.0).abs() < 0.1);
}
