//! Work on large bodies, away from the thread that serves everybody.

use backend::FairSemaphore;

use crate::connections;
use crate::error::ApiError;

/// Bodies up to this many bytes are worked on where they are: a scan of them takes less than a tenth of a millisecond,
/// about what handing them to another thread costs.
pub const LIGHT: usize = 256 << 10;
/// Bytes of one body that the serving thread moves before others have their turn: a third of a millisecond. A peer as fast
/// as this machine would otherwise keep it for all of the body.
pub const BURST: usize = 512 << 10;
/// Large bodies of one user worked on at once, so that the serving thread keeps a core of its own on a small machine and
/// memory bandwidth on a large one; one more is somebody else's.
const AT_ONCE: usize = 2;

static TURNS: FairSemaphore = FairSemaphore::new(AT_ONCE + 1, AT_ONCE);

/// Runs `work` on a body of `size` bytes that `user` sent or waits for: here if it is small, on a blocking thread
/// otherwise. Users who have many take turns.
///
/// What `work` holds is dropped on that thread, also when nobody waits for its result any more.
pub async fn heavy<T: Send + 'static>(
    user: &str,
    size: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if size <= LIGHT {
        return work();
    }
    let turn = connections::turn(&TURNS, user).await;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    // A panic's own text may quote a prompt.
    done.await.map_err(|_| ApiError::internal("the work on a large body panicked"))?
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[actix_rt::test]
    async fn a_large_body_is_worked_on_elsewhere_and_a_panic_over_it_is_an_error_without_its_words() {
        let here = thread::current().id();
        let ran_on = |size| heavy("alice", size, || Ok(thread::current().id()));
        assert_eq!(ran_on(LIGHT).await, Ok(here));
        assert_ne!(ran_on(LIGHT + 1).await, Ok(here));
        for _ in 0..=AT_ONCE {
            let failed = heavy::<()>("alice", LIGHT + 1, || panic!("a prompt")).await.unwrap_err();
            assert_eq!(failed.message, "internal error");
        }
    }
}
