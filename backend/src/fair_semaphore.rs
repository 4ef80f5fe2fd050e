//! A semaphore that serves waiting users in turn, however many permits each of them requests.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// A semaphore with a limit for each user.
#[derive(Debug)]
pub struct FairSemaphore {
    max_permits: usize,
    max_of_user: usize,
    /// `None` until first used.
    line: Mutex<Option<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    taken: usize,
    taken_by: HashMap<String, usize>,
    /// Users with waiting requests, in the order of their turns.
    turns: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<FairPermit>>>,
}

/// A permit, released on drop.
#[derive(Debug)]
pub struct FairPermit {
    turns: &'static FairSemaphore,
    user: String,
}

impl FairSemaphore {
    /// Creates a semaphore of `max_permits`, at most `max_of_user` for one user. If that is less, the rest is free for other users.
    pub const fn new(max_permits: usize, max_of_user: usize) -> Self {
        Self { max_permits, max_of_user, line: Mutex::new(None) }
    }

    /// Whether `user` has a permit.
    pub fn is_held_by(&self, user: &str) -> bool {
        self.line.lock().as_ref().is_some_and(|line| line.taken_by.contains_key(user))
    }

    /// Waits for a permit for `user`.
    pub async fn acquire(&'static self, user: &str) -> FairPermit {
        loop {
            let permit = match self.try_acquire(user) {
                Ok(permit) => return permit,
                Err(receiver) => receiver,
            };
            // A permit that is sent to a dropped receiver passes to the next request in its own `drop`.
            if let Ok(permit) = permit.await {
                return permit;
            }
        }
    }

    /// Returns a permit, or a receiver for one.
    fn try_acquire(&'static self, user: &str) -> Result<FairPermit, oneshot::Receiver<FairPermit>> {
        let mut line = self.line.lock();
        let line = line.get_or_insert_default();
        if self.has_permit(line, user) {
            line.takes(user);
            return Ok(FairPermit { turns: self, user: user.to_owned() });
        }
        let (sender, turn) = oneshot::channel();
        let waiting = line.waiting.entry(user.to_owned()).or_default();
        if waiting.is_empty() {
            line.turns.push_back(user.to_owned());
        }
        waiting.push_back(sender);
        Err(turn)
    }

    fn has_permit(&self, line: &Line, user: &str) -> bool {
        line.taken < self.max_permits && line.taken_by.get(user).is_none_or(|taken| *taken < self.max_of_user)
    }

    /// Removes the first request of the first user that may get a permit.
    fn next(&self, line: &mut Line) -> Option<(String, oneshot::Sender<FairPermit>)> {
        for _ in 0..line.turns.len() {
            let user = line.turns.pop_front()?;
            if !self.has_permit(line, &user) {
                line.turns.push_back(user);
                continue;
            }
            let Some(waiting) = line.waiting.get_mut(&user) else { continue };
            // Skip requests that were dropped.
            let next = std::iter::from_fn(|| waiting.pop_front()).find(|next| !next.is_closed());
            if waiting.is_empty() {
                line.waiting.remove(&user);
            } else {
                line.turns.push_back(user.clone());
            }
            if let Some(next) = next {
                return Some((user, next));
            }
        }
        None
    }
}

impl Line {
    fn takes(&mut self, user: &str) {
        self.taken += 1;
        *self.taken_by.entry(user.to_owned()).or_default() += 1;
    }

    fn leaves(&mut self, user: &str) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(taken) = self.taken_by.get_mut(user) {
            *taken -= 1;
            if *taken == 0 {
                self.taken_by.remove(user);
            }
        }
    }
}

impl Drop for FairPermit {
    fn drop(&mut self) {
        let mut all = self.turns.line.lock();
        let Some(line) = all.as_mut() else { return };
        line.leaves(&self.user);
        let next = self.turns.next(line);
        if let Some((user, _)) = &next {
            line.takes(user);
        }
        drop(all);
        if let Some((user, next)) = next {
            // If the receiver was just dropped, the permit is dropped again here.
            drop(next.send(Self { turns: self.turns, user }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;
    use tokio::task::yield_now;

    use super::*;

    /// A27: a user with one request does not wait for all requests of another user. A dropped request takes no permit.
    #[actix_rt::test]
    async fn users_take_turns_however_many_requests_one_has() {
        const MANY: usize = 40;
        const AT_ONCE: usize = 2;
        static PERMITS: FairSemaphore = FairSemaphore::new(AT_ONCE, AT_ONCE);
        let (done, there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let works = |user: &'static str| {
            let (done, there) = (done.clone(), there.clone());
            async move {
                let _turn = PERMITS.acquire(user).await;
                assert!(there.fetch_add(1, Ordering::SeqCst) < AT_ONCE);
                yield_now().await;
                there.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst)
            }
        };
        let flood: Vec<_> = (0..MANY).map(|_| actix_rt::spawn(works("mallory"))).collect();
        let left: Vec<_> = (0..MANY).map(|_| actix_rt::spawn(works("nobody"))).collect();
        yield_now().await;
        left.iter().for_each(actix_rt::task::JoinHandle::abort);
        let before = works("alice").await;
        assert!(before <= 3 * AT_ONCE, "{before} of others' came first");
        for one in flood {
            one.await.unwrap();
        }
        assert_eq!(works("alice").await, MANY + 1);
    }

    proptest! {
        /// A27: no user exceeds its limit, no request waits while its user may have a permit, and all permits are returned.
        #[test]
        fn permits_are_limited_for_each_user(
            ops in prop::collection::vec((0..3_usize, prop::bool::ANY, any::<prop::sample::Index>()), 1..60),
        ) {
            const MOST: usize = 3;
            const OF_ONE: usize = 2;
            let turns: &'static FairSemaphore = Box::leak(Box::new(FairSemaphore::new(MOST, OF_ONE)));
            let mut waiting = Vec::new();
            let mut held: Vec<(usize, FairPermit)> = Vec::new();
            for (user, comes, which) in ops {
                if comes {
                    waiting.push((user, Box::pin(turns.acquire(["a", "b", "c"][user]))));
                } else if !held.is_empty() && user > 0 {
                    held.swap_remove(which.index(held.len()));
                } else if !waiting.is_empty() {
                    drop(waiting.swap_remove(which.index(waiting.len())));
                }
                let mut still = Vec::new();
                for (user, mut turn) in waiting {
                    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                        Poll::Ready(turn) => held.push((user, turn)),
                        Poll::Pending => still.push((user, turn)),
                    }
                }
                waiting = still;
                let of = |user: usize| held.iter().filter(|(holder, _)| *holder == user).count();
                prop_assert!(held.len() <= MOST && (0..3).all(|user| of(user) <= OF_ONE));
                let may = |user: usize| held.len() < MOST && of(user) < OF_ONE;
                prop_assert!(!waiting.iter().any(|(user, _)| may(*user)), "a request waits while a permit is free");
            }
            drop(waiting);
            drop(held);
            let line = turns.line.lock();
            let line = line.as_ref();
            prop_assert!(line.is_none_or(|line| line.taken == 0 && line.taken_by.is_empty()));
        }
    }
}
