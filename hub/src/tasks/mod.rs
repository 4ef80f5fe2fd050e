//! Durable tasks (SPEC.md section 5, queue): accepted once the store has them, run when a publisher has capacity.
//!
//! The [table](DurableTasks) has every task that has not ended, without its request, which stays in the store until it is
//! sent. The [scheduler](run_scheduler) claims tasks and starts a runner for each. A runner commits its claim before it
//! sends anything, so a crash of the hub makes no task run twice. [`TaskState`] is also the state of inferences that are not durable.

mod attempt;
mod chunks;
mod ending;
mod enqueue;
mod open_task;
mod orphans;
mod queues;
mod runner;
mod scheduler;
mod state;
mod table;
mod target_capacity;
mod turns;
mod views;

pub(crate) use chunks::ChunkBatch;
pub(crate) use orphans::run as run_orphans;
pub(crate) use scheduler::{restore, run_scheduler};
pub(crate) use state::{Attempt, Effect, Event, TaskState};
pub(crate) use table::DurableTasks;

/// Error of a task that was sent out before a restart.
pub(crate) const HUB_RESTARTED: &str = "the hub was restarted while this task was running";
/// Error of a task that was sent out by a hub that is gone.
pub(crate) const HUB_LOST: &str = "the hub that ran this task was lost";
/// Error of a task whose runner panicked.
const CRASHED: &str = "the hub crashed over this task";
/// Error of a task that no publisher took before its deadline.
pub(crate) const EXPIRED: &str = "no publisher took this task in time";
