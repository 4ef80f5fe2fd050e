//! Keeps an actor alive: a crash costs the message that caused it, and nothing else.
//!
//! actix's own supervisor does not survive a panic (it runs in the task that panics), so this one polls the
//! actor inside `catch_unwind` and restarts it in place. The same address stays valid, the mailbox keeps what
//! waits in it, and the dead life's futures are dropped before the delay begins, which frees its connections.
//!
//! What a supervised actor has to know:
//! - `restarting()` resets its state; `started()` follows after the delay and arms timers again.
//! - `ctx.stop()` means "I cannot go on" and counts as a crash. Ending for good is [`ChildHandle::stop`].
//! - Never cancel a future in the turn that stops: handle numbers start again, and the cancellation would hit
//!   a timer of the next life. The restart drops the timers anyway.
//! - Never answer with `ResponseFuture`: it runs outside the actor, where nobody sees its panic.

mod catch_panic;
mod child;
mod failures;
mod panic_hook;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix::Message;

pub use catch_panic::{Panicked, catch_panic};
pub use child::{ChildHandle, CrashReporter, PreparedActor};
pub use failures::Policy;
pub use panic_hook::install_panic_hook;

#[cfg(panic = "abort")]
compile_error!("supervision catches panics: build with panic = \"unwind\"");

/// Why an actor's life ended, or why a crash was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A panic in a handler, a timer, a spawned future or a lifecycle hook.
    Panic,
    /// The actor stopped itself: it could not go on.
    Stop,
    /// A panic that the actor contained in one of its tasks and reported; the actor itself lives on.
    Task,
}

/// What the supervisor tells the parent. A lost one costs a log line, or for `GaveUp` the reaction to it, so
/// the parent must outlive its children.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum ChildReport {
    /// A crash was counted. The actor runs again after `retry_in`, or still runs where `cause` is `Task`.
    Failed {
        /// The child's name.
        child: Arc<str>,
        /// What happened.
        cause: Cause,
        /// How long it stays down, its mailbox open.
        retry_in: Duration,
    },
    /// Too many crashes: the actor and what waited in its mailbox are gone.
    GaveUp {
        /// The child's name.
        child: Arc<str>,
    },
    /// The actor was stopped by its handle, or nobody can reach it any more.
    Ended {
        /// The child's name.
        child: Arc<str>,
    },
}
