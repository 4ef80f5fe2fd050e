//! Runs work on large bodies on blocking threads, so that it does not delay other users.

use crate::{BackendError, FairSemaphore};

/// Maximum size, in bytes, of a body that is processed on the calling thread. A body of nothing but members, which is parsed into a
/// tree, takes about a millisecond; one of text takes far less.
pub(crate) const MAX_INLINE: usize = 32 << 10;

/// Maximum number of large bodies of one user that are processed at a time, which limits memory and leaves a core free. One more is
/// for other users.
const MAX_OF_USER: usize = 2;

static PERMITS: FairSemaphore = FairSemaphore::new(MAX_OF_USER + 1, MAX_OF_USER);

/// Runs `work` on a body of `size` bytes of `user`: on this thread if the body is small, else on a blocking thread, users in turn.
pub(crate) async fn offload<T: Send + 'static>(
    user: &str,
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackendError> {
    if size <= MAX_INLINE {
        return Ok(work());
    }
    let permit = PERMITS.acquire(user).await;
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    // The text of a panic can contain a prompt.
    task.await.map_err(|_panicked| BackendError::Failed("the work on a large body failed".to_owned()))
}

/// Takes all permits, so that offloaded work waits, and a lock that keeps other tests from doing the same.
#[cfg(test)]
async fn take_all_permits() -> (Vec<crate::FairPermit>, tokio::sync::MutexGuard<'static, ()>) {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let one = ONE.lock().await;
    let mut all = Vec::new();
    for user in ["a test", "a test", "another test"] {
        all.push(PERMITS.acquire(user).await);
    }
    (all, one)
}

/// Checks that `work` is offloaded, and returns its result.
#[cfg(test)]
pub(crate) async fn assert_offloaded<T>(what: &str, work: impl Future<Output = T>) -> T {
    let permits = take_all_permits().await;
    let mut work = std::pin::pin!(work);
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut work).await;
    assert!(early.is_err(), "{what} was not offloaded");
    drop(permits);
    work.await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_large_body_is_offloaded_and_a_panic_is_an_error() {
        let here = thread::current().id();
        for (size, is_here) in [(MAX_INLINE, true), (MAX_INLINE + 1, false)] {
            let ran_on = offload("alice", size, || thread::current().id()).await.unwrap();
            assert_eq!(ran_on == here, is_here, "{size}");
        }
        let failed = offload::<()>("alice", MAX_INLINE + 1, || panic!("a prompt")).await.unwrap_err();
        assert_eq!(failed.to_string(), "the work on a large body failed");
    }

    #[tokio::test]
    async fn the_number_of_large_bodies_at_a_time_is_limited() {
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, goes) = tokio::sync::watch::channel(false);
        let work = || {
            let (begun, mut goes) = (begun.clone(), goes.clone());
            tokio::spawn(offload("alice", MAX_INLINE + 1, move || {
                begun.send(()).unwrap();
                tokio::runtime::Handle::current().block_on(goes.wait_for(|goes| *goes)).unwrap();
            }))
        };
        let all: Vec<_> = (0..2 * MAX_OF_USER).map(|_| work()).collect();
        let mut begun = 0;
        while begun < MAX_OF_USER {
            tokio::task::yield_now().await;
            begun += begins.try_iter().count();
        }
        assert_eq!((begun, begins.try_iter().count()), (MAX_OF_USER, 0));
        go.send_replace(true);
        for done in all {
            done.await.unwrap().unwrap();
        }
    }

    /// A27: a user waits for the next permit, not for all bodies of another user.
    #[tokio::test]
    async fn users_take_turns_with_large_bodies() {
        const MANY: usize = 20;
        let done = Arc::new(AtomicUsize::new(0));
        let work = |user: &'static str| {
            let done = Arc::clone(&done);
            async move {
                let work = move || {
                    thread::sleep(Duration::from_millis(5));
                    done.fetch_add(1, Ordering::SeqCst)
                };
                offload(user, usize::MAX, work).await.unwrap()
            }
        };
        let flood: Vec<_> = (0..MANY).map(|_| tokio::spawn(work("mallory"))).collect();
        tokio::task::yield_now().await;
        let before = work("alice").await;
        assert!(before < MANY / 2, "{before} of {MANY} came first");
        for one in flood {
            one.await.unwrap();
        }
    }
}
