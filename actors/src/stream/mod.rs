//! The `StreamActor`.

pub mod messages;
