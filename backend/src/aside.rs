//! Work on large bodies, away from the thread that serves everybody.

use tokio::sync::Semaphore;

use crate::BackendError;

/// Bodies up to this many bytes are worked on where they are, as the hub has it: that takes less than a millisecond.
const LIGHT: usize = 256 << 10;

/// Large bodies worked on at once: a small machine has a core left for everybody else, and their memory is bounded.
const AT_ONCE: usize = 2;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Runs `work` on a body of `size` bytes: here if it is small, on a blocking thread otherwise.
pub(crate) async fn aside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackendError> {
    if size <= LIGHT {
        return Ok(work());
    }
    // A panic's own text may quote a prompt.
    let failed = || BackendError::Failed("the work on a large body failed".to_owned());
    let place = PLACES.acquire().await.map_err(|_closed| failed())?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    done.await.map_err(|_panicked| failed())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_worked_on_elsewhere_and_a_panic_over_it_is_an_error_without_its_words() {
        let here = thread::current().id();
        for (size, is_here) in [(LIGHT, true), (LIGHT + 1, false)] {
            let ran_on = aside(size, || thread::current().id()).await.unwrap();
            assert_eq!(ran_on == here, is_here, "{size}");
        }
        let failed = aside::<()>(LIGHT + 1, || panic!("a prompt")).await.unwrap_err();
        assert_eq!(failed.to_string(), "the work on a large body failed");
    }
}
