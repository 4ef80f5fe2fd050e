//! The panic hook: logs the actor and the place of a panic, not its payload, which may quote a prompt or a key.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use crate::news::news;

thread_local! {
    /// Name of the actor or task that runs on this thread.
    static CURRENT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Sets the current name until the guard is dropped.
pub(super) fn enter(name: &Arc<str>) -> Entered {
    Entered { previous: CURRENT.replace(Some(Arc::clone(name))) }
}

/// Restores the previous name on drop.
pub(super) struct Entered {
    previous: Option<Arc<str>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // Fails at the end of the thread.
        let _ = CURRENT.try_with(|current| current.replace(self.previous.take()));
    }
}

/// Replaces the panic hook of the process by one that logs actor and place, without the payload.
///
/// Called by a program, once. A library should leave the hook of its host alone.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| news!(error, "panics", "all actors", "{}", describe(info))));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let name = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    let name = name.as_deref().unwrap_or("a task outside any actor");
    match info.location() {
        Some(place) => format!("{name} panicked at {}:{}:{}", place.file(), place.line(), place.column()),
        None => format!("{name} panicked"),
    }
}
