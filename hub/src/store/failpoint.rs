//! Points at which a test kills its process, as a power cut would. No-ops outside tests.

#[cfg(not(test))]
pub(super) const fn reach(_: &str) {}

/// Kills the process at the point named in [`DIE_AT`], after passing it [`DIE_AFTER`] times.
#[cfg(test)]
pub(super) fn reach(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static REACHED: AtomicUsize = AtomicUsize::new(0);

    if std::env::var(DIE_AT).is_ok_and(|name| name == point) {
        let times: usize = std::env::var(DIE_AFTER).unwrap().parse().unwrap();
        if REACHED.fetch_add(1, Ordering::Relaxed) == times {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
}

/// Environment variable: the point at which to die.
#[cfg(test)]
pub(super) const DIE_AT: &str = "VIRTUAL_LLM_TEST_DIE_AT";
/// Environment variable: the number of times that the point is survived.
#[cfg(test)]
pub(super) const DIE_AFTER: &str = "VIRTUAL_LLM_TEST_DIE_AFTER";
