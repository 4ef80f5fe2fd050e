//! Connections of the hub's HTTP server: acceptance, TLS, limits by address and user, read-ahead, idle time-outs, and fair
//! scheduling of the serving thread. Requests are handled elsewhere.

mod body_allowance;
mod close;
mod connection;
mod file_limit;
mod gate;
mod head_end;
mod head_memory;
mod limits;
mod maybe_tls;
mod priority;
mod scheduled;
mod scheduler;
mod send_queue;
mod serve;
mod table;
mod user_timeout;

pub(crate) use connection::Connection;
pub(crate) use file_limit::raise_file_limit;
pub(crate) use limits::{ConnectionLimits, OutboundLimits};
#[cfg(test)]
pub(crate) use priority::with_priority_count;
pub(crate) use priority::{PriorityGuard, turn};
pub(crate) use serve::{ListenerConfig, serve};
