//! The schedule of faults. It depends only on the seed and the length, so that a run can be repeated.

use std::time::Duration;

use testkit::proxy::Network;

use crate::REGISTRARS;
use crate::backend::Mood;
use testkit::random::Random;

/// One fault: its target, its kind, its start and its duration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    pub at: Duration,
    pub whose: Target,
    pub what: Trouble,
    pub lasts: Duration,
}

impl Fault {
    /// The registrar whose messages this fault may delay until others have given them up.
    pub fn delays(&self) -> Option<usize> {
        match (self.whose, self.what) {
            (Target::Channel(index) | Target::BackendLink(index), _)
            | (Target::Registrar(index), Trouble::Stop) => Some(index),
            _ => None,
        }
    }
}

/// A target of faults. It has at most one fault at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Hub,
    Registrar(usize),
    /// The network between a registrar and the hub.
    Channel(usize),
    /// The network between a registrar and its backend.
    BackendLink(usize),
    Backend(usize),
    /// The network between the hub and the callers with a bad network.
    Callers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Kill,
    Terminate,
    Stop,
    Network(Network),
    Mood(Mood),
}

impl Trouble {
    /// Name of the kind, without its numbers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Terminate => "SIGTERM",
            Self::Stop => "SIGSTOP and SIGCONT",
            Self::Network(Network::Passes) => "network passes",
            Self::Network(Network::Lags(_)) => "network lags",
            Self::Network(Network::Trickles(_)) => "network trickles",
            Self::Network(Network::Slices) => "network slices",
            Self::Network(Network::CutsAfter(_)) => "network cuts",
            Self::Network(Network::BlackHole) => "network is a black hole",
            Self::Network(Network::Resets) => "network resets",
            Self::Network(Network::HalfCloses) => "network half-closes",
            Self::Mood(mood) => mood.name(),
        }
    }
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::Registrar(_) => "registrar",
            Self::Channel(_) => "registrar to hub",
            Self::BackendLink(_) => "registrar to backend",
            Self::Backend(_) => "backend",
            Self::Callers => "caller to hub",
        }
    }
}

/// Average time between two faults, in milliseconds. A fault lasts about 2 s, so about five are active at a time.
const GAP: u64 = 400;

type Deal = fn(&mut Random) -> (Target, Trouble, Duration);

/// Kinds of faults and how many of each are in the deck. They are drawn like cards, so that a short run has every kind.
const DECK: &[(usize, Deal)] = &[
    (1, |r| (Target::Hub, Trouble::Kill, r.millis(50, 1500))),
    (1, |r| (Target::Hub, Trouble::Terminate, r.millis(50, 1500))),
    (2, |r| (Target::Hub, Trouble::Stop, r.millis(200, 2500))),
    (5, |r| (registrar(r), Trouble::Kill, r.millis(10, 2000))),
    (4, |r| (registrar(r), Trouble::Terminate, r.millis(10, 2000))),
    // Some of these pauses exceed the timeout of a heartbeat.
    (4, |r| (registrar(r), Trouble::Stop, r.millis(200, 6000))),
    (13, |r| (Target::Channel(r.index(REGISTRARS)), network(r), r.millis(200, 5000))),
    (8, |r| (Target::BackendLink(r.index(REGISTRARS)), network(r), r.millis(200, 4000))),
    (4, |r| (Target::Callers, network(r), r.millis(200, 3000))),
    (10, |r| (Target::Backend(r.index(REGISTRARS)), Trouble::Mood(mood(r)), r.millis(500, 5000))),
];

/// Number of registrars that are never ended, so that their memory can be judged over the whole run.
pub const VETERANS: usize = 4;

fn registrar(random: &mut Random) -> Target {
    Target::Registrar(VETERANS + random.index(REGISTRARS - VETERANS))
}

fn network(random: &mut Random) -> Trouble {
    Trouble::Network(match random.index(7) {
        0 => Network::Lags(random.millis(10, 400)),
        1 => Network::Trickles(u32::try_from(random.between(2_000, 50_000)).unwrap()),
        2 => Network::Slices,
        3 => Network::CutsAfter(random.between(1, 5_000)),
        4 => Network::BlackHole,
        5 => Network::Resets,
        _ => Network::HalfCloses,
    })
}

fn mood(random: &mut Random) -> Mood {
    match random.index(6) {
        0 => Mood::Dead,
        1 => Mood::Slow,
        2 => Mood::Hangs,
        3 => Mood::CutsOff,
        4 => Mood::Refuses(503),
        _ => Mood::Refuses(429),
    }
}

/// Returns all faults of a run in order. The hub is not ended in the second half, so that its memory can be judged.
pub fn schedule(seed: u64, length: Duration) -> Vec<Fault> {
    let mut random = Random::new(seed);
    let mut faults = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let times = DECK.iter().enumerate();
        let mut deck: Vec<_> = times.flat_map(|(kind, (times, _))| vec![kind; *times]).collect();
        random.shuffle(&mut deck);
        if at.is_zero() {
            // Even the shortest run ends the hub both by SIGKILL and by SIGTERM.
            deck.splice(4..4, [0]);
            deck.splice(10..10, [1]);
        }
        for kind in deck {
            at += random.millis(0, 2 * GAP);
            if at >= length {
                return faults;
            }
            let (whose, what, lasts) = DECK[kind].1(&mut random);
            let ends_hub = whose == Target::Hub && what != Trouble::Stop;
            if !(ends_hub && at > length / 2) {
                faults.push(Fault { at, whose, what, lasts });
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_faults() {
    let length = Duration::from_mins(1);
    assert_eq!(schedule(7, length), schedule(7, length));
    assert_ne!(schedule(7, length), schedule(8, length));
}
