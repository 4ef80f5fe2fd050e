//! Places at which a test lets its process die, as by a power cut. Outside tests they are nothing.

/// The process may die here.
#[cfg(not(test))]
pub(crate) const fn reach(_: &str) {}

/// The process dies here, if this is where it was told to.
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

/// Names the point.
#[cfg(test)]
pub(crate) const DIE_AT: &str = "VIRTUAL_LLM_TEST_DIE_AT";
/// How often it is survived.
#[cfg(test)]
pub(crate) const DIE_AFTER: &str = "VIRTUAL_LLM_TEST_DIE_AFTER";
