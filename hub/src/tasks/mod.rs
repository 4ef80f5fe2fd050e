//! Durable tasks (SPEC.md section 5, queue): accepted when they are on disk, run when a publisher has room.
//!
//! The book holds every task that has not ended, without its request, which is read from the store when it is sent out.
//! [`drive`] claims tasks and starts one worker for each; a worker commits its claim before anything is sent, so that no
//! crash makes a task run twice.

mod chunks;
mod follow;
mod lines;
mod open;
mod runner;
mod scheduler;
mod state;
mod table;
mod target_capacity;
mod views;

pub use chunks::Batch;
pub use open::Peek;
pub use scheduler::{drive, restore};
pub use state::{Attempt, Effect, Event, TaskState};
pub use table::DurableTasks;

/// Why a task that was sent out before a restart has no result.
pub const HUB_RESTARTED: &str = "the hub was restarted while this task was running";
/// Why a task that the hub itself stumbled over has no result.
pub const CRASHED: &str = "the hub crashed over this task";
/// Why a task that nobody took has no result.
pub const EXPIRED: &str = "no publisher took this task in time";
