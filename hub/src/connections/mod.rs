//! Connections, from their acceptance to their first request and between two: who may have how many, how much is read
//! ahead of what is answered, how long one without a token may idle,
//! whose turn it is.

mod files;
mod flow;
mod gate;
mod heads;
mod limits;
mod pressing;
mod serve;
mod share;
mod table;
mod wire;
mod write_timeout;

pub(crate) use files::raise;
pub(crate) use flow::Flow;
pub(crate) use limits::ConnectionLimits;
#[cfg(test)]
pub(crate) use pressing::pressed;
pub(crate) use pressing::{Pressing, turn};
pub(crate) use serve::{Doors, serve};
