//! The body of an answer that arrives a part at a time. Pure.
//!
//! The sender waits for the answer to each part before it sends the next. If that is late, it asks whether the part has come, without
//! its bytes, and sends it again if it has not. For a part that came while there was no room it asks when there is. So there is at most one
//! part more than there is room for, a reader that stops is sent nothing, and what is lost or doubled on the way does no harm.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Parts that wait for the reader.
const ROOM: usize = 2;

/// The sender is gone, or a part is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// What a message about a part asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asks {
    /// To take it: its bytes are with it.
    #[default]
    Part,
    /// Whether it has come. No bytes are with it.
    Arrival,
    /// When there is room for the next one. No bytes are with it.
    Room,
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It has come, and the next one may.
    Taken,
    /// It has come, and there is no room for the next one.
    Held,
    /// It has not come.
    Lacks,
    /// Nobody reads it.
    Unknown,
}

impl Arrival {
    /// Its name in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Held => "held",
            Self::Lacks => "lacks",
            Self::Unknown => "unknown",
        }
    }

    /// Whether something was taken.
    pub fn taken(is_taken: bool) -> Self {
        if is_taken { Self::Taken } else { Self::Unknown }
    }
}

/// A reply to be sent, and what it says.
pub type Answered<R> = (R, Arrival);

/// What has arrived. `R` answers a part.
pub struct Parts<R> {
    /// Number of the part that comes next.
    next: u64,
    ready: VecDeque<Bytes>,
    /// The part that came while there was no room, and who waits for room.
    held: Option<(Bytes, Option<R>)>,
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
    /// Takes a message about the part `number`. Returns what is to be answered now.
    pub fn arrive(
        &mut self,
        number: u64,
        asks: Asks,
        bytes: Bytes,
        is_last: bool,
        reply: R,
    ) -> Option<Answered<R>> {
        if number > self.next || self.is_broken {
            self.break_off();
            return Some((reply, Arrival::Unknown));
        }
        if number < self.next {
            return match &mut self.held {
                Some((_, waiting)) if number + 1 == self.next => {
                    if asks == Asks::Room {
                        *waiting = Some(reply);
                        return None;
                    }
                    Some((reply, Arrival::Held))
                }
                _ => Some((reply, Arrival::Taken)),
            };
        }
        if asks != Asks::Part {
            return Some((reply, Arrival::Lacks));
        }
        self.next += 1;
        self.is_ended = is_last;
        if self.ready.len() >= ROOM {
            self.held = Some((bytes, None));
            return Some((reply, Arrival::Held));
        }
        self.ready.push_back(bytes);
        self.wake();
        Some((reply, Arrival::Taken))
    }

    /// The next part, with what is to be answered now; `None` behind the last one.
    #[allow(clippy::type_complexity, reason = "that of a stream, with a reply")]
    pub fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Option<Result<(Bytes, Option<R>), Broken>>> {
        if let Some(bytes) = self.ready.pop_front() {
            let held = self.held.take();
            let reply = held.and_then(|(bytes, waiting)| {
                self.ready.push_back(bytes);
                waiting
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

        /// Whatever is lost or doubled on the way, and however slowly it is read, the body is whole and in order, at most `ROOM` parts
        /// and one more wait, and no part is sent again that has come.
        #[test]
        fn a_body_arrives_whole(count in 1_u64..20, faults in vec((any::<bool>(), any::<bool>(), 0_usize..3), 1..40)) {
            let mut parts = Parts::<u64>::default();
            let (mut found, mut sent, mut is_over, mut asks) = (Vec::new(), 0, false, Asks::Part);
            let mut faults = faults.into_iter().cycle();
            for step in 0..20_000 {
                let (is_lost, is_doubled, reads) = faults.next().unwrap();
                let mut answered = Vec::new();
                // The message, or the answer to it.
                let (is_lost, is_unheard) = (is_lost && step % 7 < 3, is_lost && step % 7 > 3);
                if sent < count && !is_lost {
                    for _ in 0..if is_doubled { 2 } else { 1 } {
                        let bytes = if asks == Asks::Part { vec![u8::try_from(sent).unwrap()] } else { Vec::new() };
                        answered.extend(parts.arrive(sent, asks, bytes.into(), sent + 1 == count, sent));
                    }
                }
                prop_assert!(parts.ready.len() <= ROOM);
                let reads = if step % 3 == 0 { reads.max(1) } else { reads };
                let (replies, ended) = read(&mut parts, reads, &mut found);
                answered.extend(replies.into_iter().map(|reply| (reply, Arrival::Taken)));
                is_over |= ended;
                answered.retain(|(part, _)| !is_unheard && *part == sent);
                match answered.last() {
                    Some((_, Arrival::Taken)) => (sent, asks) = (sent + 1, Asks::Part),
                    Some((_, Arrival::Held)) => asks = Asks::Room,
                    Some((_, Arrival::Lacks)) => {
                        prop_assert_eq!(parts.next, sent);
                        asks = Asks::Part;
                    }
                    Some((_, Arrival::Unknown)) => prop_assert!(false, "broken"),
                    // The answer is late.
                    None if asks == Asks::Part => asks = Asks::Arrival,
                    None => {}
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
    fn a_part_without_room_is_held_and_its_sender_hears_of_room() {
        let (mut parts, mut found) = (Parts::<u64>::default(), Vec::new());
        for number in 0..=ROOM as u64 {
            let arrival = if number < ROOM as u64 { Arrival::Taken } else { Arrival::Held };
            let bytes = Bytes::from_static(b"x");
            assert_eq!(parts.arrive(number, Asks::Part, bytes, false, number), Some((number, arrival)));
        }
        let held = ROOM as u64;
        assert_eq!(parts.arrive(held, Asks::Arrival, Bytes::new(), false, 7), Some((7, Arrival::Held)));
        assert_eq!(parts.arrive(held, Asks::Room, Bytes::new(), false, 8), None);
        assert_eq!(parts.arrive(held, Asks::Room, Bytes::new(), false, 9), None);
        assert_eq!(read(&mut parts, 1, &mut found), (vec![9], false));
        assert_eq!(parts.arrive(held, Asks::Room, Bytes::new(), false, 10), Some((10, Arrival::Taken)));
        let next = held + 1;
        assert_eq!(parts.arrive(next, Asks::Arrival, Bytes::new(), false, 11), Some((11, Arrival::Lacks)));
        assert_eq!(read(&mut parts, 9, &mut found), (vec![], false));
        assert_eq!(found, b"xxx");
    }

    #[test]
    fn a_missing_part_breaks_the_body_behind_what_has_come() {
        let (mut parts, waker) = (Parts::<()>::default(), noop_waker());
        let cx = Context::from_waker(&waker);
        assert!(matches!(
            parts.arrive(0, Asks::Part, Bytes::from_static(b"a"), false, ()),
            Some(((), Arrival::Taken))
        ));
        assert!(matches!(
            parts.arrive(2, Asks::Part, Bytes::from_static(b"c"), true, ()),
            Some(((), Arrival::Unknown))
        ));
        assert!(matches!(parts.poll_next(&cx), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(parts.poll_next(&cx), Poll::Ready(Some(Err(Broken)))));
    }
}
