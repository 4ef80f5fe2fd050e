//! Work on large bodies, away from the thread that serves everybody.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::ApiError;
use crate::model::UserId;

/// Bodies up to this many bytes are worked on where they are: a scan of them takes less than a tenth of a millisecond,
/// about what handing them to another thread costs.
pub const LIGHT: usize = 256 << 10;
/// Bytes of one body that the serving thread moves before others have their turn: a third of a millisecond. A peer as fast
/// as this machine would otherwise keep it for all of the body.
pub const BURST: usize = 512 << 10;
/// Large bodies worked on at once, so that the serving thread keeps a core of its own on a small machine and memory
/// bandwidth on a large one.
const AT_ONCE: usize = 2;

static PLACES: Mutex<Option<Places>> = Mutex::new(None);

/// Who works, and who waits for it: users take turns, however much each of them has.
#[derive(Default)]
struct Places {
    taken: usize,
    /// Users of whom something waits, in the order of their turns.
    turns: VecDeque<UserId>,
    waiting: HashMap<UserId, VecDeque<oneshot::Sender<Place>>>,
}

/// Room to work on one body.
struct Place(());

impl Place {
    async fn of(user: &str) -> Result<Self, ApiError> {
        let turn = {
            let mut all = PLACES.lock();
            let places = all.get_or_insert_default();
            if places.taken < AT_ONCE {
                places.taken += 1;
                return Ok(Self(()));
            }
            let (place, turn) = oneshot::channel();
            let line = places.waiting.entry(user.to_owned()).or_default();
            if line.is_empty() {
                places.turns.push_back(user.to_owned());
            }
            line.push_back(place);
            turn
        };
        // A place that came meanwhile to one who left is given on when this is dropped.
        turn.await.map_err(ApiError::internal)
    }
}

impl Places {
    /// The first who waits of the user whose turn it is.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        while let Some(user) = self.turns.pop_front() {
            let Some(line) = self.waiting.get_mut(&user) else { continue };
            // Those who left are no turn.
            let next = std::iter::from_fn(|| line.pop_front()).find(|next| !next.is_closed());
            if line.is_empty() {
                self.waiting.remove(&user);
            } else {
                self.turns.push_back(user);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = PLACES.lock();
        let Some(places) = all.as_mut() else { return };
        let next = places.next();
        if next.is_none() {
            places.taken = places.taken.saturating_sub(1);
        }
        drop(all);
        if let Some(next) = next {
            // To one who leaves at this moment: then it comes back here.
            drop(next.send(Self(())));
        }
    }
}

/// Runs `work` on a body of `size` bytes: here if it is small, on a blocking thread otherwise.
///
/// What `work` holds is dropped on that thread, also when nobody waits for its result any more.
pub async fn heavy<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    heavy_of("", size, work).await
}

/// As [`heavy`], on a body that `user` sent: of those who send many each has its turn.
pub async fn heavy_of<T: Send + 'static>(
    user: &str,
    size: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if size <= LIGHT {
        return work();
    }
    let place = Place::of(user).await?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    // A panic's own text may quote a prompt.
    done.await.map_err(|_| ApiError::internal("the work on a large body panicked"))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[actix_rt::test]
    async fn a_large_body_is_worked_on_elsewhere_and_a_panic_over_it_is_an_error_without_its_words() {
        let here = thread::current().id();
        let ran_on = |size| heavy(size, || Ok(thread::current().id()));
        assert_eq!(ran_on(LIGHT).await, Ok(here));
        assert_ne!(ran_on(LIGHT + 1).await, Ok(here));
        for _ in 0..=AT_ONCE {
            let failed = heavy::<()>(LIGHT + 1, || panic!("a prompt")).await.unwrap_err();
            assert_eq!(failed.message, "internal error");
        }
    }

    /// A27: of two users of whom one has much to be worked on and the other one body, the latter waits for those that
    /// are being worked on, not for all; whoever left takes no place with it.
    #[actix_rt::test]
    async fn users_take_turns_however_much_one_of_them_has() {
        const MANY: usize = 40;
        let done = Arc::new(AtomicUsize::new(0));
        let slow = |user: &'static str| {
            let done = done.clone();
            heavy_of(user, LIGHT + 1, move || {
                thread::sleep(Duration::from_millis(20));
                Ok(done.fetch_add(1, Ordering::SeqCst))
            })
        };
        let flood: Vec<_> = (0..MANY).map(|_| actix_rt::spawn(slow("mallory"))).collect();
        let left: Vec<_> = (0..MANY).map(|_| actix_rt::spawn(slow("nobody"))).collect();
        tokio::task::yield_now().await;
        left.iter().for_each(actix_rt::task::JoinHandle::abort);
        let before = slow("alice").await.unwrap();
        assert!(before < MANY / 2, "{before} of another's came first");
        for one in flood {
            one.await.unwrap().unwrap();
        }
        let all = slow("alice").await.unwrap();
        assert!((MANY + 1..=MANY + 1 + AT_ONCE).contains(&all), "{all}");
    }
}
