//! How many bytes of bodies are on their way to another process. Those that wait get a place in turns of their users: one with many
//! large bodies delays another one by a window at most.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::Process;
use crate::model::UserId;

/// Bytes on their way to one process: of a line of 1 Gbit/s 16 ms, of one of 10 Gbit/s and 1 ms there and back more than it
/// takes.
pub(super) const WINDOW: usize = 2 << 20;

/// The windows to all processes.
#[derive(Default)]
pub(super) struct Windows(Mutex<HashMap<Process, Line>>);

#[derive(Default)]
struct Line {
    taken: usize,
    /// Users with bodies that wait, in the order of their turns.
    turns: VecDeque<UserId>,
    waiting: HashMap<UserId, VecDeque<(usize, oneshot::Sender<Place>)>>,
}

/// A body's place in a window, given back on drop.
pub(super) struct Place {
    windows: Arc<Windows>,
    to: Process,
    size: usize,
}

impl Windows {
    /// Waits for a place for a body of `user` to the process `to`.
    pub(super) async fn place(self: &Arc<Self>, to: Process, user: &str, size: usize) -> Place {
        loop {
            let (sender, place) = oneshot::channel();
            self.ask(to, user, size, sender);
            // A place that is sent to a dropped receiver passes to the next one in its own `drop`.
            if let Ok(place) = place.await {
                return place;
            }
        }
    }

    fn ask(self: &Arc<Self>, to: Process, user: &str, size: usize, sender: oneshot::Sender<Place>) {
        let mut lines = self.0.lock();
        let line = lines.entry(to).or_default();
        let waiting = line.waiting.entry(user.to_owned()).or_default();
        if waiting.is_empty() {
            line.turns.push_back(user.to_owned());
        }
        waiting.push_back((size, sender));
        let given = line.give();
        drop(lines);
        self.send(to, given);
    }

    fn send(self: &Arc<Self>, to: Process, given: Vec<(usize, oneshot::Sender<Place>)>) {
        for (size, sender) in given {
            // If the receiver was just dropped, the place is dropped here.
            drop(sender.send(Place { windows: self.clone(), to, size }));
        }
    }
}

impl Line {
    /// Takes the places that are free, in turns.
    fn give(&mut self) -> Vec<(usize, oneshot::Sender<Place>)> {
        let mut given = Vec::new();
        while let Some(user) = self.turns.front() {
            let Some(waiting) = self.waiting.get_mut(user) else {
                self.turns.pop_front();
                continue;
            };
            // Those that were dropped take no turn.
            while waiting.front().is_some_and(|(_, sender)| sender.is_closed()) {
                waiting.pop_front();
            }
            if let Some((size, _)) = waiting.front()
                && self.taken > 0
                && self.taken + size > WINDOW
            {
                // Whose turn it is waits until there is room: smaller bodies of others do not pass it for ever.
                break;
            }
            let next = waiting.pop_front();
            let has_more = !waiting.is_empty();
            let user = self.turns.pop_front().unwrap_or_default();
            if has_more {
                self.turns.push_back(user);
            } else {
                self.waiting.remove(&user);
            }
            if let Some((size, sender)) = next {
                self.taken += size;
                given.push((size, sender));
            }
        }
        given
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.windows.0.lock();
        let Some(line) = lines.get_mut(&self.to) else { return };
        line.taken = line.taken.saturating_sub(self.size);
        let given = line.give();
        if line.taken == 0 {
            lines.remove(&self.to);
        }
        drop(lines);
        self.windows.send(self.to, given);
    }
}

#[cfg(test)]
impl Windows {
    /// Whether nothing is on its way, and nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use futures_util::FutureExt;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn process() -> Process {
        Process::parse("b.bbbbbb").unwrap()
    }

    #[test]
    fn users_take_turns_however_many_bodies_one_has() {
        let windows = Arc::<Windows>::default();
        let part = WINDOW / 4;
        let mut held: VecDeque<_> =
            (0..4).map(|_| windows.place(process(), "mallory", part).now_or_never().unwrap()).collect();
        let mut cx = Context::from_waker(Waker::noop());
        let mut many: Vec<_> =
            (0..100).map(|_| Box::pin(windows.place(process(), "mallory", part))).collect();
        assert!(many.iter_mut().all(|waits| waits.poll_unpin(&mut cx).is_pending()));
        let mut alice = Box::pin(windows.place(process(), "alice", part));
        assert!(alice.poll_unpin(&mut cx).is_pending());
        // Another process has a window of its own.
        let other = Process::parse("c.cccccc").unwrap();
        assert!(windows.place(other, "mallory", WINDOW).now_or_never().is_some());
        let mut before = 0;
        let of_alice = loop {
            held.pop_front();
            for waits in &mut many {
                if let Poll::Ready(place) = waits.poll_unpin(&mut cx) {
                    held.push_back(place);
                    before += 1;
                    *waits = Box::pin(windows.place(process(), "mallory", part));
                    assert!(waits.poll_unpin(&mut cx).is_pending());
                }
            }
            if let Poll::Ready(place) = alice.poll_unpin(&mut cx) {
                break place;
            }
        };
        assert!(before <= 1, "{before} came first");
        drop((held, many, of_alice));
        assert!(windows.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testkit::cases()))]

        /// Whoever comes, leaves and gives up: the window is kept, nobody waits for a window with nothing in it, and all is given
        /// back.
        #[test]
        fn a_window_is_kept_and_given_back(
            ops in vec((0..3_usize, 0..3_usize, 1..WINDOW + WINDOW / 2, any::<prop::sample::Index>()), 1..80),
        ) {
            let windows = Arc::<Windows>::default();
            let mut cx = Context::from_waker(Waker::noop());
            let (mut waiting, mut held) = (Vec::new(), Vec::<Place>::new());
            for (what, user, size, which) in ops {
                match what {
                    1 if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                    2 if !waiting.is_empty() => drop(waiting.swap_remove(which.index(waiting.len()))),
                    _ => waiting.push(Box::pin(windows.place(process(), ["a", "b", "c"][user], size))),
                }
                let mut still = Vec::new();
                for mut waits in waiting {
                    match waits.poll_unpin(&mut cx) {
                        Poll::Ready(place) => held.push(place),
                        Poll::Pending => still.push(waits),
                    }
                }
                waiting = still;
                let sizes: usize = held.iter().map(|place| place.size).sum();
                prop_assert!(sizes <= WINDOW || held.len() == 1);
                prop_assert!(waiting.is_empty() || !held.is_empty(), "all wait for nothing");
            }
            drop(waiting);
            drop(held);
            prop_assert!(windows.is_empty());
        }
    }
}
