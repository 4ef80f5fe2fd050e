//! Inferences that wait: the life of a task, and durable tasks (SPEC.md section 5, queue).

mod state;

pub use state::{Attempt, Effect, Event, Life};
