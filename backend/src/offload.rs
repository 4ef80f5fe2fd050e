//! Work on large bodies, away from the thread that serves everybody.

use crate::{BackendError, FairSemaphore};

/// Bodies up to this many bytes are worked on where they are, as the hub has it: that takes less than a millisecond.
pub(crate) const MAX_INLINE: usize = 256 << 10;

/// The end of an answer tells again what was said before, so what is streamed of one that has said more than this, some 250,000
/// tokens, is worked on as a large body is.
pub(crate) const LONG_ANSWER: usize = 1 << 20;

/// Large bodies of one user worked on at once: a small machine has a core left for everybody else, and their memory is
/// bounded. One more is somebody else's.
const AT_ONCE: usize = 2;

static PERMITS: FairSemaphore = FairSemaphore::new(AT_ONCE + 1, AT_ONCE);

/// Runs `work` on a body of `size` bytes that `user` sent or waits for: here if it is small, on a blocking thread otherwise.
/// Users who have many take turns.
pub(crate) async fn offload<T: Send + 'static>(
    user: &str,
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BackendError> {
    if size <= MAX_INLINE {
        return Ok(work());
    }
    let turn = PERMITS.acquire(user).await;
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    // A panic's own text may quote a prompt.
    done.await.map_err(|_panicked| BackendError::Failed("the work on a large body failed".to_owned()))
}

/// All places, so that whatever is worked on elsewhere waits until they are dropped; and what no other test has meanwhile.
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

/// What `work` gives, which waits for a place.
#[cfg(test)]
pub(crate) async fn assert_offloaded<T>(what: &str, work: impl Future<Output = T>) -> T {
    let places = take_all_permits().await;
    let mut work = std::pin::pin!(work);
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut work).await;
    assert!(early.is_err(), "{what} was worked on here");
    drop(places);
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
    async fn a_large_body_is_worked_on_elsewhere_and_a_panic_over_it_is_an_error_without_its_words() {
        let here = thread::current().id();
        for (size, is_here) in [(MAX_INLINE, true), (MAX_INLINE + 1, false)] {
            let ran_on = offload("alice", size, || thread::current().id()).await.unwrap();
            assert_eq!(ran_on == here, is_here, "{size}");
        }
        let failed = offload::<()>("alice", MAX_INLINE + 1, || panic!("a prompt")).await.unwrap_err();
        assert_eq!(failed.to_string(), "the work on a large body failed");
    }

    /// Each of them has the memory of a large body, and a core: more of them wait.
    #[tokio::test]
    async fn so_many_large_bodies_are_worked_on_at_once() {
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, goes) = tokio::sync::watch::channel(false);
        let work = || {
            let (begun, mut goes) = (begun.clone(), goes.clone());
            tokio::spawn(offload("alice", MAX_INLINE + 1, move || {
                begun.send(()).unwrap();
                tokio::runtime::Handle::current().block_on(goes.wait_for(|goes| *goes)).unwrap();
            }))
        };
        let all: Vec<_> = (0..2 * AT_ONCE).map(|_| work()).collect();
        let mut begun = 0;
        while begun < AT_ONCE {
            tokio::task::yield_now().await;
            begun += begins.try_iter().count();
        }
        assert_eq!((begun, begins.try_iter().count()), (AT_ONCE, 0));
        go.send_replace(true);
        for done in all {
            done.await.unwrap().unwrap();
        }
    }

    /// A27: whoever has many large bodies worked on makes another one wait for the next place, not for all of them.
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
