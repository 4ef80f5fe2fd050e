//! The `SessionActor`.

pub mod messages;
