//! Logs who panicked and where, never why: a payload may quote a prompt or a key.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use crate::news::news;

thread_local! {
    /// Whose code runs on this thread right now.
    static CURRENT: RefCell<Option<Arc<str>>> = const { RefCell::new(None) };
}

/// Names the code that runs until the guard is dropped.
pub(super) fn enter(name: &Arc<str>) -> Entered {
    Entered { previous: CURRENT.replace(Some(Arc::clone(name))) }
}

/// Gives the name back to whoever ran before.
pub(super) struct Entered {
    previous: Option<Arc<str>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // A thread that ends has no current code to name.
        let _ = CURRENT.try_with(|current| current.replace(self.previous.take()));
    }
}

/// Replaces the process's panic hook by one that logs actor and place, and never the payload.
///
/// For the program to call, once: a library that merely runs actors leaves its host's hook alone.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| news!(error, "panics", "all actors", "{}", describe(info))));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let who = CURRENT.try_with(|current| current.borrow().clone()).ok().flatten();
    let who = who.as_deref().unwrap_or("a task outside any actor");
    match info.location() {
        Some(place) => format!("{who} panicked at {}:{}:{}", place.file(), place.line(), place.column()),
        None => format!("{who} panicked"),
    }
}
