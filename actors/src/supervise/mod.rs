//! Supervision: a crash of an actor loses only the message that caused it.
//!
//! actix's own supervisor runs in the task that panics and does not survive it. This one polls the actor inside
//! `catch_unwind` and restarts it in place: address and mailbox stay valid, and the futures of the crashed actor are
//! dropped before the delay, which closes its connections.
//!
//! Rules for a supervised actor:
//! - `restarting()` resets its state; `started()` follows after the delay and arms its timers again.
//! - `ctx.stop()` counts as a crash. [`ChildHandle::stop`] ends an actor without a restart.
//! - Never cancel a future in the turn that stops the actor: handle numbers start again, so a timer armed after the restart
//!   would be cancelled. The restart drops all timers.
//! - Never return a `ResponseFuture`: it runs outside the actor, where its panic is not caught.

mod catch_panic;
mod child;
mod failures;
mod panic_hook;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

pub(crate) use catch_panic::catch_panic;
pub(crate) use child::{ChildHandle, CrashReporter, PreparedActor};
pub use panic_hook::install_panic_hook;

#[cfg(panic = "abort")]
compile_error!("supervision catches panics: build with panic = \"unwind\"");

/// The kind of a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A panic in a handler, a timer, a spawned future or a lifecycle hook.
    Panic,
    /// The actor stopped itself.
    Stop,
    /// A panic in a task of the actor, reported by its [`CrashReporter`]; the actor runs on.
    Task,
}

/// A report to the parent, which must outlive its children: a lost `GaveUp` has no reaction.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum ChildReport {
    /// A crash was counted. The actor runs again after `retry_in`, or still runs where `cause` is `Task`.
    Failed { child: Arc<str>, cause: Cause, retry_in: Duration },
    /// Too many crashes: the actor and the messages in its mailbox are dropped.
    GaveUp { child: Arc<str> },
    /// The actor was stopped by its handle, or all of its addresses are dropped.
    Ended { child: Arc<str> },
}
