//! FairSemaphore of users at something that only a few can do at once: of those who wait each user has its turn, however much it
//! wants.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Places at one thing, and who waits for one.
#[derive(Debug)]
pub struct FairSemaphore {
    most: usize,
    most_of_one: usize,
    /// `None` until the first comes.
    line: Mutex<Option<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    taken: usize,
    taken_by: HashMap<String, usize>,
    /// Users of whom something waits, in the order of their turns.
    turns: VecDeque<String>,
    waiting: HashMap<String, VecDeque<oneshot::Sender<FairPermit>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct FairPermit {
    turns: &'static FairSemaphore,
    user: String,
}

impl FairSemaphore {
    /// FairSemaphore of `most` at once, of one user `most_of_one`: where that is less, another user finds a place at once.
    pub const fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, line: Mutex::new(None) }
    }

    /// Waits until it is `user`'s turn.
    pub async fn acquire(&'static self, user: &str) -> FairPermit {
        loop {
            let turn = match self.now_or_later(user) {
                Ok(turn) => return turn,
                Err(turn) => turn,
            };
            // A turn that came meanwhile to one who left is given on when this is dropped. Nobody who waits is forgotten.
            if let Ok(turn) = turn.await {
                return turn;
            }
        }
    }

    /// A place, or what brings one.
    fn now_or_later(&'static self, user: &str) -> Result<FairPermit, oneshot::Receiver<FairPermit>> {
        let mut line = self.line.lock();
        let line = line.get_or_insert_default();
        if self.has_place(line, user) {
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

    fn has_place(&self, line: &Line, user: &str) -> bool {
        line.taken < self.most && line.taken_by.get(user).is_none_or(|taken| *taken < self.most_of_one)
    }

    /// The first who waits of the first user who may have a place.
    fn next(&self, line: &mut Line) -> Option<(String, oneshot::Sender<FairPermit>)> {
        for _ in 0..line.turns.len() {
            let user = line.turns.pop_front()?;
            if !self.has_place(line, &user) {
                line.turns.push_back(user);
                continue;
            }
            let Some(waiting) = line.waiting.get_mut(&user) else { continue };
            // Those who left are no turn.
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
            // To one who leaves at this moment: then it comes back here.
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

    /// A27: of two users of whom one wants a place many times and the other one once, the latter waits for those who have
    /// one, not for all; whoever left takes no place with it.
    #[actix_rt::test]
    async fn users_take_turns_however_much_one_of_them_wants() {
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
        /// A27: a user has no more than its part, another one has a place at once where one has all of it, nobody waits
        /// beside a place that it may have, and in the end there is nothing left, whoever comes, goes and leaves.
        #[test]
        fn a_place_is_kept_for_somebody_else(
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
                prop_assert!(!waiting.iter().any(|(user, _)| may(*user)), "one waits beside a place");
            }
            drop(waiting);
            drop(held);
            let line = turns.line.lock();
            let line = line.as_ref();
            prop_assert!(line.is_none_or(|line| line.taken == 0 && line.taken_by.is_empty()));
        }
    }
}
