//! Moves work on large bodies off the thread that serves HTTP.

use backend::FairSemaphore;

use crate::connections;
use crate::error::ApiError;

/// Largest body, in bytes, that is processed on the calling thread. A scan of a text takes 1 µs, and one of the most expensive
/// shape, keys of one escaped letter, 0.3 ms. Handing it to another thread takes about 0.1 ms.
pub(crate) const INLINE_BYTES: usize = 32 << 10;
/// Most bytes of one body that the serving thread moves before it yields: a third of a millisecond. A peer as fast as this
/// machine would otherwise occupy the thread for the whole body.
pub(crate) const MAX_BURST: usize = 512 << 10;
/// Most large bodies of one user processed at once; one more can be another user's. This leaves the serving thread a core
/// on a small machine, and memory bandwidth on a large one.
const PER_USER: usize = 2;

static TURNS: FairSemaphore = FairSemaphore::new(PER_USER + 1, PER_USER);

/// Runs `work` on a body of `size` bytes that `user` sent or waits for: at once if it is small, else on a blocking thread.
/// Users take turns.
///
/// The captures of `work` are dropped on that thread, also if the returned future is dropped.
pub(crate) async fn offload<T: Send + 'static>(
    user: &str,
    size: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if size <= INLINE_BYTES {
        return work();
    }
    let turn = connections::turn(&TURNS, user).await;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    // The panic's text may quote a prompt: do not show it.
    done.await.map_err(|_| ApiError::internal("the work on a large body panicked"))?
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[actix_rt::test]
    async fn large_work_runs_on_another_thread_and_a_panic_becomes_an_error() {
        let here = thread::current().id();
        let ran_on = |size| offload("alice", size, || Ok(thread::current().id()));
        assert_eq!(ran_on(INLINE_BYTES).await, Ok(here));
        assert_ne!(ran_on(INLINE_BYTES + 1).await, Ok(here));
        for _ in 0..=PER_USER {
            let failed = offload::<()>("alice", INLINE_BYTES + 1, || panic!("a prompt")).await.unwrap_err();
            assert_eq!(failed.message, "internal error");
        }
    }
}
