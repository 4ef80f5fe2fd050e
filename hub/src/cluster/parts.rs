//! The body of an answer that arrives a part at a time. Pure.
//!
//! The sender waits for the answer to each part before it sends the next, and sends a part again whose answer is late. So there is
//! at most one part more than there is room for, and what is lost or doubled on the way does no harm.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// Parts that wait for the reader.
const ROOM: usize = 2;

/// The sender is gone, or a part is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// A reply to be sent, and whether the part was taken.
pub type Answered<R> = (R, bool);

/// What has arrived. `R` answers a part.
pub struct Parts<R> {
    /// Number of the part that comes next.
    next: u64,
    ready: VecDeque<Bytes>,
    /// The part for which there is no room, unanswered.
    held: Option<(Bytes, R)>,
    is_ended: bool,
    is_broken: bool,
    reader: Option<Waker>,
}

impl<R> Default for Parts<R> {
    fn default() -> Self {
        Self { next: 0, ready: VecDeque::new(), held: None, is_ended: false, is_broken: false, reader: None }
    }
}

impl<R> Parts<R> {
    /// Takes the part `number`. Returns what is to be answered now.
    pub fn arrive(&mut self, number: u64, bytes: Bytes, is_last: bool, reply: R) -> Option<Answered<R>> {
        if number > self.next || self.is_broken {
            self.break_off();
            return Some((reply, false));
        }
        if number < self.next {
            return match &mut self.held {
                // It is asked again about the part that waits.
                Some((_, earlier)) if number + 1 == self.next => {
                    *earlier = reply;
                    None
                }
                _ => Some((reply, true)),
            };
        }
        self.next += 1;
        self.is_ended = is_last;
        if self.ready.len() >= ROOM {
            self.held = Some((bytes, reply));
            return None;
        }
        self.ready.push_back(bytes);
        self.wake();
        Some((reply, true))
    }

    /// The next part, with what is to be answered now; `None` behind the last one.
    #[allow(clippy::type_complexity, reason = "that of a stream, with a reply")]
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Result<(Bytes, Option<R>), Broken>>> {
        if let Some(bytes) = self.ready.pop_front() {
            let held = self.held.take();
            let reply = held.map(|(bytes, reply)| {
                self.ready.push_back(bytes);
                reply
            });
            return Poll::Ready(Some(Ok((bytes, reply))));
        }
        if self.is_ended {
            return Poll::Ready(None);
        }
        if self.is_broken {
            return Poll::Ready(Some(Err(Broken)));
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Notes that no further part comes.
    pub fn break_off(&mut self) {
        self.is_broken = true;
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Reads what is there. Returns the replies.
    fn read(parts: &mut Parts<u64>, most: usize, found: &mut Vec<u8>) -> (Vec<u64>, bool) {
        let (waker, mut replies) = (noop_waker(), Vec::new());
        for _ in 0..most {
            match parts.poll_next(&Context::from_waker(&waker)) {
                Poll::Ready(Some(Ok((bytes, reply)))) => {
                    found.extend_from_slice(&bytes);
                    replies.extend(reply);
                }
                Poll::Ready(None) => return (replies, true),
                Poll::Ready(Some(Err(Broken))) => panic!("broken"),
                Poll::Pending => break,
            }
        }
        (replies, false)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(testkit::cases()))]

        /// Whatever is lost or doubled on the way, and however slowly it is read, the body is whole and in order, and at most
        /// `ROOM` parts and one more wait.
        #[test]
        fn a_body_arrives_whole(count in 1_u64..20, faults in vec((any::<bool>(), any::<bool>(), 0_usize..3), 1..40)) {
            let mut parts = Parts::<u64>::default();
            let (mut found, mut sent, mut is_over) = (Vec::new(), 0, false);
            let mut faults = faults.into_iter().cycle();
            // The part that the sender waits for, until its reply arrives.
            for step in 0..10_000 {
                let (is_lost, is_doubled, reads) = faults.next().unwrap();
                let is_lost = is_lost && step % 7 != 0;
                let mut answered = Vec::new();
                if sent < count {
                    let body = || Bytes::from(vec![u8::try_from(sent).unwrap()]);
                    for _ in 0..if is_doubled { 2 } else { 1 } {
                        if let Some((reply, taken)) = parts.arrive(sent, body(), sent + 1 == count, sent) {
                            prop_assert!(taken);
                            answered.push(reply);
                        }
                    }
                }
                prop_assert!(parts.ready.len() <= ROOM);
                let reads = if step % 3 == 0 { reads.max(1) } else { reads };
                let (replies, ended) = read(&mut parts, reads, &mut found);
                answered.extend(replies);
                is_over |= ended;
                if !is_lost && answered.contains(&sent) {
                    sent += 1;
                }
                if is_over && sent == count {
                    break;
                }
            }
            prop_assert!(is_over);
            let all: Vec<u8> = (0..count).map(|n| u8::try_from(n).unwrap()).collect();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn a_missing_part_breaks_the_body_behind_what_has_come() {
        let (mut parts, waker) = (Parts::<()>::default(), noop_waker());
        let cx = Context::from_waker(&waker);
        assert!(matches!(parts.arrive(0, Bytes::from_static(b"a"), false, ()), Some(((), true))));
        assert!(matches!(parts.arrive(2, Bytes::from_static(b"c"), true, ()), Some(((), false))));
        assert!(matches!(parts.poll_next(&cx), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(parts.poll_next(&cx), Poll::Ready(Some(Err(Broken)))));
    }
}
