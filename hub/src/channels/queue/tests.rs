//! Whose event is written next, and what is not written.

use proptest::prelude::*;

use super::*;
use crate::channels::event::SLICE;

const CALLERS: [&str; 3] = ["alice", "bob", "carol"];
/// What their events are made of.
const BYTES: [u8; 3] = *b"012";

/// An event of this many bytes, all of them this one, then an end.
fn event(byte: u8, size: usize) -> Event {
    let mut bytes = vec![byte; size];
    bytes.push(b'\n');
    bytes.into()
}

fn push(queue: &mut Queue, ticket: u64, caller: &str, byte: u8, size: usize) {
    queue.room(caller, size + 1).unwrap();
    queue.push(ticket, caller, event(byte, size), <[BytesPermit; 2]>::default());
}

/// Events of this size until there is no room: how many, and why.
fn fill(queue: &mut Queue, caller: &str, size: usize) -> (usize, Full) {
    let mut count = 0;
    loop {
        if let Err(full) = queue.room(caller, size) {
            return (count, full);
        }
        queue.push(0, caller, vec![0; size].into(), <[BytesPermit; 2]>::default());
        count += 1;
    }
}

/// The first bytes of the events that are left, in the order in which they are written.
fn order(queue: &mut Queue) -> String {
    let (mut order, mut is_first) = (String::new(), true);
    while let Some(slice) = queue.slice() {
        if is_first {
            order.push(char::from(slice[0]));
        }
        is_first = slice.ends_with(b"\n");
    }
    order
}

/// A27: who sends much has its turn, and others theirs, however much came before.
#[test]
fn callers_have_the_channel_in_turn_by_bytes_and_small_events_wait_for_none_that_is_not_begun() {
    let mut queue = Queue::default();
    for ticket in 0..3 {
        push(&mut queue, ticket, "mallory", b'M', 10 * SLICE);
    }
    // One has begun before the others came.
    assert!(queue.slice().unwrap().starts_with(b"M"));
    for ticket in 3..5 {
        push(&mut queue, ticket, "bob", b'b', 100);
        push(&mut queue, ticket, "carol", b'C', 6 * SLICE);
    }
    push(&mut queue, 5, "bob", b'B', 11 * SLICE);
    queue.tell(event(b'!', 1)).unwrap();
    while !queue.slice().unwrap().ends_with(b"\n") {}
    assert_eq!(order(&mut queue), "!bbCMBCM");
    assert_eq!((queue.bytes, queue.events, queue.lanes.len()), (0, 0, 1));
}

#[test]
fn an_event_that_nobody_wants_any_more_is_not_written() {
    let mut queue = Queue::default();
    let (one, two, three, four) = (1, 2, 3, 4);
    for (ticket, caller, byte) in
        [(one, "alice", b'1'), (two, "alice", b'2'), (three, "bob", b'3'), (four, "bob", b'4')]
    {
        push(&mut queue, ticket, caller, byte, 3 * SLICE);
    }
    assert!(queue.slice().unwrap().starts_with(b"1"));
    assert!(queue.withdraw(two, false) && !queue.withdraw(two, true), "twice is once");
    assert!(!queue.withdraw(one, false), "it has begun");
    assert!(queue.withdraw(four, true));
    assert_eq!(queue.bytes, 3 * SLICE + 1);
    assert!(queue.withdraw(one, true), "the rest of it is not worth the time");
    assert_eq!(queue.slice().unwrap(), CUT);
    assert!(!queue.withdraw(one, true), "it is written");
    assert_eq!(order(&mut queue), "3");
    assert!(!queue.withdraw(three, true));
    push(&mut queue, 5, "bob", b'5', 10);
    queue.slice().unwrap();
    assert!(!queue.withdraw(5, true), "its reader has the whole of it");
    assert!(queue.slice().is_none());
}

/// A27: one caller may have half of a channel, and there is room for the others then.
#[test]
fn a_caller_may_have_as_much_as_is_free_beside_it() {
    let mut queue = Queue::default();
    let size = 16 << 20;
    assert_eq!(fill(&mut queue, "mallory", size), (8, Full::Caller));
    assert_eq!(fill(&mut queue, "bob", size), (4, Full::Caller));
    assert_eq!(fill(&mut queue, "carol", 3 * size), (1, Full::All));
    assert_eq!(fill(&mut queue, "dave", size), (1, Full::All));
    let mut queue = Queue::default();
    for (part, caller) in [(2, "mallory"), (4, "bob"), (8, "carol")] {
        assert_eq!(fill(&mut queue, caller, 1), (MAX_EVENTS / part, Full::Caller));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Push { caller: usize, size: usize },
    Tell,
    Withdraw(usize, bool),
    Slice,
}

fn any_op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![1..50_usize, SLICE..4 * SLICE];
    prop_oneof![
        3 => (0..CALLERS.len(), size).prop_map(|(caller, size)| Op::Push { caller, size }),
        1 => Just(Op::Tell),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, cuts)| Op::Withdraw(at, cuts)),
        4 => Just(Op::Slice),
    ]
}

proptest! {
    /// Whatever comes and is taken back: every other event is written whole and once, no event within another, each
    /// caller's in the order in which they came, words before the events that are not begun, and nothing stays
    /// counted.
    #[test]
    fn what_is_not_taken_back_is_written_whole_and_in_order(ops in prop::collection::vec(any_op(), 0..80)) {
        let (mut queue, mut tickets) = (Queue::default(), 0);
        // By caller: number, size.
        let mut waiting: [VecDeque<(u64, usize)>; CALLERS.len()] = std::array::from_fn(|_| VecDeque::new());
        let mut words = 0;
        // What is being written: its number (none of a word), and the bytes that are to come.
        let mut writing: Option<(Option<u64>, usize)> = None;
        for op in ops.into_iter().chain(std::iter::repeat_n(Op::Slice, 2000)) {
            match op {
                Op::Push { caller, size } => {
                    tickets += 1;
                    push(&mut queue, tickets, CALLERS[caller], BYTES[caller], size);
                    waiting[caller].push_back((tickets, size + 1));
                }
                Op::Tell => {
                    queue.tell(event(b'!', 1)).unwrap();
                    words += 1;
                }
                Op::Withdraw(at, cuts) => {
                    let all: Vec<u64> = waiting.iter().flatten().map(|(number, _)| *number)
                        .chain(writing.and_then(|(number, _)| number)).collect();
                    if all.is_empty() {
                        continue;
                    }
                    let number = all[at % all.len()];
                    let is_writing = writing.is_some_and(|(of, _)| of == Some(number));
                    prop_assert_eq!(queue.withdraw(number, cuts), !is_writing || cuts);
                    if is_writing && cuts {
                        prop_assert_eq!(queue.slice().unwrap(), CUT);
                        writing = None;
                    }
                    for events in &mut waiting {
                        events.retain(|(of, _)| *of != number);
                    }
                }
                Op::Slice => {
                    let Some(slice) = queue.slice() else {
                        prop_assert!(writing.is_none() && words == 0 && waiting.iter().all(VecDeque::is_empty));
                        continue;
                    };
                    let (number, left) = match writing {
                        Some(writing) => writing,
                        None if words > 0 => {
                            prop_assert!(slice.starts_with(b"!"));
                            words -= 1;
                            (None, 2)
                        }
                        None => {
                            let (number, size) = waiting[usize::from(slice[0] - b'0')].pop_front().unwrap();
                            (Some(number), size)
                        }
                    };
                    let left = left - slice.len();
                    prop_assert_eq!(slice.ends_with(b"\n"), left == 0);
                    writing = (left > 0).then_some((number, left));
                }
            }
            prop_assert_eq!(queue.bytes, waiting.iter().flatten().map(|(_, size)| size).sum::<usize>());
            prop_assert_eq!(queue.events, waiting.iter().map(VecDeque::len).sum::<usize>());
            let lanes: usize = waiting.iter().filter(|events| !events.is_empty()).count();
            prop_assert!(queue.lanes.len() <= lanes.max(1));
        }
        prop_assert_eq!((queue.bytes, queue.events), (0, 0));
    }
}
