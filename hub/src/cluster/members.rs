//! The processes of the cluster as one of them sees them. Pure: time is passed in, and beats are counted.
//!
//! ```text
//! alive ── 3 beats missed, or asked and not there ──▶ suspect ── 15 s ──▶ dead
//!   ▲───────────────── a beat ──────────────────────────┘                  │
//!   └───────────────── a beat ─────────────────────────────────────────────┘
//! ```
//!
//! A newer process of the same hub ends the older one for good: each lease of a hub has a greater term. Silence is counted in
//! this process's own beats, so that others do not age while it was stopped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use serde::{Deserialize, Serialize};
#[cfg(test)]
use sha2::{Digest, Sha256};

use super::Process;
use super::report::{Heard, Report};

/// Time between two beats.
pub const BEAT_EVERY: Duration = Duration::from_secs(1);
/// Own beats without one of another process, after which it has missed three: between 3 and 4 s.
const SUSPECT_AFTER: u32 = 4;
/// Own beats without one of another process, after which its lease has ended too: between 15 and 16 s.
const DEAD_AFTER: u32 = 16;
/// Own beats for which a dead process is remembered: its late beats begin nothing.
const FORGET_AFTER: u32 = 600;
/// Time between two own beats, above which the process was stopped: others may have taken it for dead.
const FENCE_AFTER: Duration = Duration::from_secs(10);
/// Own beats within which one has to come back through the network.
const ECHO_WITHIN: u64 = 3;
/// Beats after which a frame is stale.
const STALE_AFTER: u64 = 3;
/// Beats in a row whose digest differs before it is told: changes may be on their way.
const DRIFT_AFTER: u32 = 3;
/// Most processes that are remembered. A cluster has a few hubs.
const MOST: usize = 256;

/// What a process says of itself each second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beat {
    /// Number of the process's lease among those of its hub.
    pub term: u64,
    /// Whether it takes no new calls.
    pub is_draining: bool,
    /// Digest of what it owns: its rows and channels.
    pub digest: u64,
    /// Oldest and newest version of the protocol between hubs that it speaks.
    pub protocol: [u16; 2],
    /// Names of messages that it understands beyond the protocol's.
    #[serde(default)]
    pub features: Vec<String>,
    /// What it says of itself to the others, and to admins.
    #[serde(default)]
    pub report: Report,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Alive,
    /// It gets no new calls. Its rows are read as they were.
    Suspect,
    /// Its rows are inactive, its tasks over.
    Dead,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A process was heard that was unknown, suspect or dead.
    Alive(Process),
    Suspect(Process),
    Dead(Process),
    /// What a process owns differs from what is known of it: ask for all of it.
    Drifted(Process),
    /// A newer process has this hub's id: this one has to end.
    Superseded(Process),
    /// This process was stopped: it has to end its calls and to start anew.
    Fence,
}

struct Member {
    process: Process,
    term: u64,
    state: State,
    /// The number of the last beat.
    beat: u64,
    /// Own beats since then.
    silence: u32,
    last: Beat,
    /// Beats in a row with another digest than what is known.
    drift: u32,
}

/// The processes of the cluster, by hub.
pub struct Members {
    me: Process,
    term: u64,
    /// The number of the own last beat, and its time.
    own: (u64, Option<Duration>),
    /// The number of the own last beat that came back; 0 for none.
    echo: u64,
    others: BTreeMap<String, Member>,
}

impl Members {
    /// Nobody is known yet. `term` is that of this process's lease.
    pub fn new(me: Process, term: u64) -> Self {
        Self { me, term, own: (0, None), echo: 0, others: BTreeMap::new() }
    }

    /// Begins a beat of this process. Returns its number, and what changed meanwhile.
    pub fn beat(&mut self, now: Duration) -> (u64, Vec<Event>) {
        let (number, last) = self.own;
        self.own = (number + 1, Some(now));
        if last.is_some_and(|last| now.saturating_sub(last) > FENCE_AFTER) {
            return (number + 1, vec![Event::Fence]);
        }
        let mut events = Vec::new();
        self.others.retain(|_, member| {
            member.silence = member.silence.saturating_add(1);
            let state = match member.silence {
                DEAD_AFTER.. => State::Dead,
                SUSPECT_AFTER.. => State::Suspect,
                _ => State::Alive,
            };
            // Only a beat makes it better.
            if state > member.state {
                member.state = state;
                events.push(if state == State::Dead {
                    Event::Dead(member.process)
                } else {
                    Event::Suspect(member.process)
                });
            }
            member.silence < FORGET_AFTER
        });
        (number + 1, events)
    }

    /// Hears the beat `number` of `from`. `known` is the digest of what this process knows of the sender.
    pub fn heard(&mut self, from: Process, number: u64, beat: Beat, known: u64) -> Vec<Event> {
        if from == self.me {
            self.echo = self.echo.max(number);
            return Vec::new();
        }
        if from.hub() == self.me.hub() {
            return if beat.term > self.term { vec![Event::Superseded(from)] } else { Vec::new() };
        }
        let is_full = self.others.len() >= MOST;
        let mut events = Vec::new();
        let member = match self.others.entry(from.hub().to_owned()) {
            Entry::Vacant(_) if is_full => return Vec::new(),
            Entry::Vacant(entry) => {
                events.push(Event::Alive(from));
                entry.insert(Member::new(from, number, beat))
            }
            Entry::Occupied(entry) => {
                let member = entry.into_mut();
                if member.process != from {
                    if beat.term <= member.term {
                        return Vec::new();
                    }
                    if member.state != State::Dead {
                        events.push(Event::Dead(member.process));
                    }
                    events.push(Event::Alive(from));
                    *member = Member::new(from, number, beat);
                } else if number > member.beat {
                    if member.state != State::Alive {
                        events.push(Event::Alive(from));
                    }
                    let drift = member.drift;
                    *member = Member { drift, ..Member::new(from, number, beat) };
                } else {
                    // It came twice, or was overtaken.
                    return Vec::new();
                }
                member
            }
        };
        member.drift = if member.last.digest == known { 0 } else { member.drift + 1 };
        if member.drift == DRIFT_AFTER {
            member.drift = 0;
            events.push(Event::Drifted(from));
        }
        events
    }

    /// Notes that `process` was asked twice and is not connected to the network.
    pub fn not_there(&mut self, process: Process) -> Option<Event> {
        let member = self.others.get_mut(process.hub()).filter(|member| member.process == process)?;
        if member.state != State::Alive {
            return None;
        }
        member.state = State::Suspect;
        Some(Event::Suspect(process))
    }

    /// What is known of `process`: `None` if nothing is.
    pub fn state(&self, process: Process) -> Option<State> {
        if process == self.me {
            return Some(State::Alive);
        }
        let member = self.others.get(process.hub())?;
        if member.process == process {
            return Some(member.state);
        }
        Some(State::Dead)
    }

    /// The process of the other hub `hub` that is alive.
    pub fn alive(&self, hub: &str) -> Option<Process> {
        let member = self.others.get(hub).filter(|member| member.state == State::Alive)?;
        Some(member.process)
    }

    /// The other processes that are alive.
    pub fn all_alive(&self) -> Vec<Process> {
        let alive = self.others.values().filter(|member| member.state == State::Alive);
        alive.map(|member| member.process).collect()
    }

    /// What `process` said last, unless it is dead.
    pub fn last_beat(&self, process: Process) -> Option<&Beat> {
        let member = self.others.get(process.hub())?;
        (member.process == process && member.state != State::Dead).then_some(&member.last)
    }

    /// Whether a frame of the beat `beat` of `from` is stale: it waited somewhere while others of the sender arrived.
    pub fn is_stale(&self, from: Process, beat: u64) -> bool {
        match self.others.get(from.hub()) {
            Some(member) if member.process == from => beat + STALE_AFTER < member.beat,
            // An older process of the hub, or a newer one whose first beat has not come yet.
            Some(_) => true,
            None => from.hub() == self.me.hub() && from != self.me,
        }
    }

    /// The processes that are not dead, this one among them.
    #[cfg(test)]
    pub fn living(&self) -> Vec<Process> {
        let others = self.others.values().filter(|member| member.state != State::Dead);
        let mut all: Vec<_> = others.map(|member| member.process).chain([self.me]).collect();
        all.sort();
        all
    }

    /// A digest of [`living`](Self::living), which is equal at all processes that see the same.
    #[cfg(test)]
    pub fn digest(&self) -> u64 {
        let mut hash = Sha256::new();
        for process in self.living() {
            hash.update(process.as_str());
            hash.update([0]);
        }
        let bytes: [u8; 32] = hash.finalize().into();
        u64::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
    }

    /// Whether it has heard all that are there: it hears itself, and others have had the time for some beats.
    pub fn knows_all(&self) -> bool {
        self.has_echo() && self.own.0 > u64::from(SUSPECT_AFTER)
    }

    /// Whether own beats come back through the network.
    pub fn has_echo(&self) -> bool {
        self.echo > 0 && self.own.0 - self.echo <= ECHO_WITHIN
    }

    /// Time for which no own beat has come back; `None` while they do.
    pub fn without_echo(&self) -> Option<Duration> {
        let beats = u32::try_from(self.own.0 - self.echo).unwrap_or(u32::MAX);
        (!self.has_echo()).then(|| BEAT_EVERY.saturating_mul(beats))
    }

    /// What the other processes that are not dead said in their last beats.
    pub fn reports(&self) -> impl Iterator<Item = (Process, State, Heard)> {
        let others = self.others.values().filter(|member| member.state != State::Dead);
        others.map(|member| {
            let age = BEAT_EVERY.saturating_mul(member.silence);
            (member.process, member.state, Heard { report: member.last.report.clone(), age })
        })
    }
}

impl Member {
    fn new(process: Process, beat: u64, last: Beat) -> Self {
        Self { process, term: last.term, state: State::Alive, beat, silence: 0, last, drift: 0 }
    }
}

#[cfg(test)]
mod tests;
