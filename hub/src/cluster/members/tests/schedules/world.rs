//! The three hubs of a schedule, the network between them, and what no hub may say of another.

use std::collections::{BTreeMap, HashMap};

use testkit::random::Random;

use super::*;
use crate::cluster::bus::Lane;
use crate::cluster::network::{Network, Weather};

/// Beats between two renewals of a lease.
const RENEW_EVERY: u64 = 5;
/// Longest delay of a message, in milliseconds.
const DELAY: u64 = 900;

#[derive(Clone)]
pub struct Heard(Process, u64, Beat);

/// A running process.
pub struct Running {
    pub members: Members,
    pub term: u64,
    /// When its next beat is due.
    next: Duration,
    /// Until when it is stopped.
    stopped: Option<Duration>,
    /// Its own beats when a beat of each process was last taken that was newer than those before.
    fresh: HashMap<Process, (u64, u64)>,
    beats: u64,
}

/// All hubs, and what is known of them from outside.
pub struct World {
    pub random: Random,
    pub network: Network<Heard>,
    pub running: BTreeMap<Process, Running>,
    /// The last term of each hub, as the database counts it.
    pub terms: HashMap<String, u64>,
    /// The term of each process that ever ran.
    term_of: HashMap<Process, u64>,
    now: Duration,
}

pub const HUBS: [&str; 3] = ["a", "b", "c"];

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let network = Network::new(random.number());
        let (running, terms, term_of) = Default::default();
        let mut world = Self { random, network, running, terms, term_of, now: Duration::ZERO };
        for hub in HUBS {
            world.start(hub);
        }
        world
    }

    /// A process with a name of its own.
    fn process(&mut self, hub: &str) -> (Process, u64) {
        let term = self.terms.entry(hub.to_owned()).or_default();
        *term += 1;
        let letters: String =
            (0..6).map(|_| char::from(b'a' + u8::try_from(self.random.below(26)).unwrap())).collect();
        let process = process(&format!("{hub}.{letters}"));
        self.term_of.insert(process, *term);
        (process, *term)
    }

    fn start(&mut self, hub: &str) {
        let (process, term) = self.process(hub);
        self.network.join(process);
        let next = self.now + Duration::from_millis(self.random.below(1000));
        let running = Running {
            members: Members::new(process, term),
            term,
            next,
            stopped: None,
            fresh: HashMap::new(),
            beats: 0,
        };
        self.running.insert(process, running);
    }

    pub fn end(&mut self, process: Process) {
        self.running.remove(&process);
        self.network.leave(process);
    }

    /// Whether the lease of a process has ended, as the database tells it with each renewal.
    fn has_lost_its_lease(&self, process: Process) -> bool {
        self.terms[process.hub()] > self.term_of[&process]
    }

    pub fn any_running(&mut self) -> Option<Process> {
        let count = u64::try_from(self.running.len()).unwrap();
        let index = usize::try_from(self.random.below(count)).unwrap();
        self.running.keys().nth(index).copied()
    }

    /// Something happens to the network or to a hub.
    pub fn trouble(&mut self) {
        match self.random.below(9) {
            0 => {
                let (loss, repeat) = (self.random.below(60), self.random.below(40));
                let delay = Duration::from_millis(self.random.below(DELAY));
                self.network.weather = Weather { loss, repeat, delay };
            }
            1 => {
                // One hub is apart, in one direction or in both.
                let Some(one) = self.any_running() else { return };
                let both = self.random.percent(50);
                self.network.part(|from, to| from != to && (to == one || both && from == one));
            }
            2 | 3 => self.network.part(|_, _| false),
            4 => {
                let Some(one) = self.any_running() else { return };
                self.end(one);
            }
            5 | 6 => {
                // A hub starts again, or a second time.
                let index = usize::try_from(self.random.below(3)).unwrap();
                self.start(HUBS[index]);
            }
            _ => {
                let Some(one) = self.any_running() else { return };
                let until = self.now + Duration::from_millis(self.random.below(30_000));
                self.network.pause(one);
                let running = self.running.get_mut(&one).unwrap();
                running.stopped = Some(running.stopped.map_or(until, |before| before.max(until)));
            }
        }
    }

    pub fn peace(&mut self) {
        self.network.weather = Weather { delay: Duration::from_millis(50), ..Weather::default() };
        self.network.part(|_, _| false);
        let stopped: Vec<_> = self
            .running
            .iter()
            .filter(|(_, running)| running.stopped.is_some())
            .map(|(process, _)| *process)
            .collect();
        for process in stopped {
            self.go_on(process);
        }
        // An older process goes on until it hears the newer one, or asks the database.
        let outdated: Vec<_> =
            self.running.keys().copied().filter(|process| self.has_lost_its_lease(*process)).collect();
        for process in outdated {
            let newest = self.terms[process.hub()];
            if !self.running.keys().any(|other| other.hub() == process.hub() && self.term_of[other] == newest)
            {
                self.end(process);
            }
        }
        for hub in HUBS {
            if !self.running.keys().any(|process| process.hub() == hub) {
                self.start(hub);
            }
        }
    }

    fn go_on(&mut self, process: Process) {
        self.running.get_mut(&process).unwrap().stopped = None;
        self.network.resume(process, self.now);
    }

    /// Lets `step` pass.
    pub fn pass(&mut self, step: Duration) {
        self.now += step;
        let over = self.running.iter().filter(|(_, of)| of.stopped.is_some_and(|until| until <= self.now));
        let over: Vec<Process> = over.map(|(process, _)| *process).collect();
        for process in over {
            self.go_on(process);
        }
        // Of a process that goes on, either may be first: its beat or what waits for it.
        if self.random.percent(50) {
            self.deliver();
            self.beats();
        } else {
            self.beats();
            self.deliver();
        }
    }

    fn beats(&mut self) {
        let due = self.running.iter().filter(|(_, of)| of.stopped.is_none() && of.next <= self.now);
        let due: Vec<Process> = due.map(|(process, _)| *process).collect();
        for process in due {
            let running = self.running.get_mut(&process).unwrap();
            running.next = self.now + BEAT_EVERY;
            running.beats += 1;
            let delay = running.members.own.1.map(|last| self.now.saturating_sub(last));
            let (mut number, events) = running.members.beat(self.now);
            let is_fenced = events == [Event::Fence];
            assert_eq!(is_fenced, delay.is_some_and(|delay| delay > FENCE_AFTER), "a fence after {delay:?}");
            self.check(process, &events);
            let running = &self.running[&process];
            if (is_fenced || running.beats.is_multiple_of(RENEW_EVERY)) && self.has_lost_its_lease(process) {
                self.end(process);
                continue;
            }
            if is_fenced {
                // It goes on at once.
                let (next, events) = self.running.get_mut(&process).unwrap().members.beat(self.now);
                self.check(process, &events);
                number = next;
            }
            let beat = beat_of(self.running[&process].term);
            for to in self.network.joined() {
                let lane = if self.random.percent(50) { Lane::Ctl } else { Lane::Bulk };
                self.network.send(self.now, process, to, lane, Heard(process, number, beat.clone()));
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((to, Heard(from, number, beat), is_there)) = self.network.arrived(self.now) {
            if !is_there {
                continue;
            }
            let running = self.running.get_mut(&to).unwrap();
            let beats = running.beats;
            let fresh = running.fresh.entry(from).or_default();
            if number > fresh.0 {
                *fresh = (number, beats);
            }
            let events = running.members.heard(from, number, beat, 0);
            self.check(to, &events);
            if let Some(Event::Superseded(by)) = events.first() {
                assert!(self.term_of[by] > self.term_of[&to], "{by} ends {to}");
                self.end(to);
            }
        }
    }

    /// What no process may ever say.
    fn check(&self, at: Process, events: &[Event]) {
        let running = &self.running[&at];
        let silence = |of: &Process| running.beats - running.fresh.get(of).map_or(0, |(_, beats)| *beats);
        for event in events {
            match event {
                Event::Alive(of) => {
                    assert_eq!(silence(of), 0, "{of} is alive at {at} without a beat");
                    let newest = running.fresh.keys().filter(|heard| heard.hub() == of.hub());
                    let newest = newest.map(|heard| self.term_of[heard]).max();
                    assert_eq!(newest, Some(self.term_of[of]), "{of} is alive at {at} behind a newer one");
                }
                Event::Suspect(of) => assert_eq!(silence(of), 4, "{of} is suspect at {at}"),
                Event::Dead(of) => {
                    let newer = running
                        .fresh
                        .keys()
                        .any(|heard| heard.hub() == of.hub() && self.term_of[heard] > self.term_of[of]);
                    assert!(newer || silence(of) == 16, "{of} is dead at {at} after {} beats", silence(of));
                }
                Event::Drifted(_) => panic!("all digests are equal"),
                Event::Superseded(_) | Event::Fence => (),
            }
        }
    }

    /// What each process has to say of those that it heard, by its own beats since.
    pub fn check_views(&self) {
        for (at, running) in &self.running {
            let others = running.fresh.iter().filter(|(of, _)| of.hub() != at.hub());
            for (of, (_, heard)) in others {
                let newest = running.fresh.keys().filter(|other| other.hub() == of.hub());
                let is_newest = newest.map(|other| self.term_of[other]).max() == Some(self.term_of[of]);
                let expected = match running.beats - heard {
                    _ if !is_newest => State::Dead,
                    0..4 => State::Alive,
                    4..16 => State::Suspect,
                    _ => State::Dead,
                };
                assert_eq!(running.members.state(*of), Some(expected), "{of} at {at}");
            }
        }
    }
}
