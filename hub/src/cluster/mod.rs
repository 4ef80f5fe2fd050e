//! The hub as one process of a cluster (SPEC.md section 5, cluster).
//!
//! ```text
//! process     Process          one process of a hub: its id and its boot
//!             Cluster, Route   ids of tasks, which name their home, and where that is
//! frame       Frame            messages between processes
//! bus         Bus              what is needed of the network between them
//! nats        Nats             that network over NATS
//! memory_bus  MemoryBus        that network in memory, for tests
//! network     Network          what it does to messages: seeded faults
//! members     Members          the other processes: alive, suspect or dead
//! pulse       run              beats, and hears those of others
//! ```
//!
//! One hub of a cluster serves at a time, so that no program uses a network between hubs: all but `process` is compiled for tests
//! alone. Missing before a program can use it: a start of the pulse with the hub and the term of its lease, rows and channels of
//! other hubs in the registry, and the hand-over of calls, results and cancels.

#[cfg(test)]
mod bus;
#[cfg(test)]
mod frame;
#[cfg(test)]
mod members;
#[cfg(test)]
mod memory_bus;
#[cfg(test)]
mod nats;
#[cfg(test)]
mod network;
mod process;
#[cfg(test)]
mod pulse;

pub use process::{Cluster, Process, Route};
