//! `WakeActor`: executes recipes.

pub mod messages;
