//! The hub as one process of a cluster (SPEC.md section 5, cluster).
//!
//! ```text
//! process  Process          one process of a hub: its id and its boot
//!          Cluster, Route   ids of tasks, which name their home, and where that is
//! ```
//!
//! One hub of a cluster serves at a time. Missing before several can: the hand-over of calls and results to another process.

mod process;

pub use process::{Cluster, Process, Route};
