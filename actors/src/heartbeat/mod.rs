//! `HeartbeatActor`: ticks.

pub mod messages;
