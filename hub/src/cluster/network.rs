//! A network between processes that loses, repeats and delays messages as a seed says. Pure: it knows no clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use testkit::random::Random;

use super::Process;
use super::bus::Lane;

/// What the network does to messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Percentage that is lost.
    pub loss: u64,
    /// Percentage that arrives twice.
    pub repeat: u64,
    /// Longest delay. Messages of one lane keep their order, those of the two lanes do not.
    pub delay: Duration,
}

/// Messages on their way. A process that joined gets them until it leaves.
pub struct Network<T> {
    random: Random,
    pub weather: Weather,
    /// Messages by the time of their arrival.
    due: BTreeMap<(Duration, u64), (Process, T)>,
    sent: u64,
    /// When the last message of each way arrives.
    last: HashMap<(Process, Process, Lane), Duration>,
    joined: HashSet<Process>,
    /// Pairs of processes that do not hear each other.
    apart: HashSet<(Process, Process)>,
    /// Processes whose messages wait: they do not run.
    paused: HashMap<Process, Vec<T>>,
}

impl<T: Clone> Network<T> {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            weather: Weather::default(),
            due: BTreeMap::new(),
            sent: 0,
            last: HashMap::new(),
            joined: HashSet::new(),
            apart: HashSet::new(),
            paused: HashMap::new(),
        }
    }

    pub fn join(&mut self, process: Process) {
        self.joined.insert(process);
    }

    /// Ends a process. What it has sent is on its way; what comes for it is lost.
    pub fn leave(&mut self, process: Process) {
        self.joined.remove(&process);
        self.paused.remove(&process);
    }

    pub fn is_joined(&self, process: Process) -> bool {
        self.joined.contains(&process)
    }

    /// The processes that joined, in order.
    pub fn joined(&self) -> Vec<Process> {
        let mut all: Vec<_> = self.joined.iter().copied().collect();
        all.sort();
        all
    }

    /// Parts the processes for which `is_apart`, also of what is on its way.
    pub fn part(&mut self, is_apart: impl Fn(Process, Process) -> bool) {
        let all = self.joined();
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
        self.apart = pairs.filter(|(from, to)| is_apart(*from, *to)).collect();
    }

    /// Stops a process, as SIGSTOP does: messages for it wait.
    pub fn pause(&mut self, process: Process) {
        self.paused.entry(process).or_default();
    }

    /// Lets a process go on. What waited arrives now, in its order.
    pub fn resume(&mut self, process: Process, now: Duration) {
        for message in self.paused.remove(&process).unwrap_or_default() {
            self.push(now, process, message);
        }
    }

    /// Sends a message.
    pub fn send(&mut self, now: Duration, from: Process, to: Process, lane: Lane, message: T) {
        if from != to && (self.apart.contains(&(from, to)) || self.random.percent(self.weather.loss)) {
            return;
        }
        let copies = if self.random.percent(self.weather.repeat) { 2 } else { 1 };
        for _ in 0..copies {
            let longest = u64::try_from(self.weather.delay.as_micros()).unwrap_or(u64::MAX);
            let delay = Duration::from_micros(self.random.below(longest.saturating_add(1)));
            let last = self.last.entry((from, to, lane)).or_default();
            *last = (now + delay).max(*last);
            let at = *last;
            self.push(at, to, message.clone());
        }
    }

    fn push(&mut self, at: Duration, to: Process, message: T) {
        self.sent += 1;
        self.due.insert((at, self.sent), (to, message));
    }

    /// When the next message arrives.
    pub fn next_at(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived by `now`, and whether its receiver is there.
    pub fn arrived(&mut self, now: Duration) -> Option<(Process, T, bool)> {
        while self.next_at()? <= now {
            let (_, (to, message)) = self.due.pop_first()?;
            if let Some(waiting) = self.paused.get_mut(&to) {
                waiting.push(message);
                continue;
            }
            return Some((to, message, self.is_joined(to)));
        }
        None
    }
}
