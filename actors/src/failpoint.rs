//! Points at which a test kills its process, as a power cut would. Without effect outside tests.

#[cfg(not(test))]
pub(crate) const fn reach(_: &str) {}

/// Kills the process if [`DIE_AT`] names this point.
#[cfg(test)]
pub(crate) fn reach(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static REACHED: AtomicUsize = AtomicUsize::new(0);

    if std::env::var(DIE_AT).is_ok_and(|wanted| wanted == point) {
        let times: usize = std::env::var(DIE_AFTER).unwrap().parse().unwrap();
        if REACHED.fetch_add(1, Ordering::Relaxed) == times {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
}

/// Variable with the name of the point.
#[cfg(test)]
pub(crate) const DIE_AT: &str = "VIRTUAL_LLM_TEST_DIE_AT";
/// Variable with the number of times that the point is passed first.
#[cfg(test)]
pub(crate) const DIE_AFTER: &str = "VIRTUAL_LLM_TEST_DIE_AFTER";
