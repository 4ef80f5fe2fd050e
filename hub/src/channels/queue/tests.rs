//! The order of events, and withdrawn events.

use proptest::prelude::*;

use super::*;
use crate::channels::event::SLICE;

const CALLERS: [&str; 3] = ["alice", "bob", "carol"];
/// The content byte of each caller's events.
const BYTES: [u8; 3] = *b"012";

/// An event of `size` bytes `byte` and a line end.
fn event(byte: u8, size: usize) -> Event {
    let mut bytes = vec![byte; size];
    bytes.push(b'\n');
    bytes.into()
}

fn push(queue: &mut Queue, event_number: u64, caller: &str, byte: u8, size: usize) {
    queue.check_room(caller, size + 1).unwrap();
    queue.push(event_number, caller, event(byte, size), <[BytesPermit; 2]>::default());
}

/// Pushes events of `size` bytes until there is no room. Returns their number and the reason.
fn fill(queue: &mut Queue, caller: &str, size: usize) -> (usize, QueueFull) {
    let mut count = 0;
    loop {
        if let Err(full) = queue.check_room(caller, size) {
            return (count, full);
        }
        queue.push(0, caller, vec![0; size].into(), <[BytesPermit; 2]>::default());
        count += 1;
    }
}

/// The first bytes of the remaining events, in the order of writing.
fn order(queue: &mut Queue) -> String {
    let (mut order, mut is_first) = (String::new(), true);
    while let Some(slice) = queue.next_slice() {
        if is_first {
            order.push(char::from(slice[0]));
        }
        is_first = slice.ends_with(b"\n");
    }
    order
}

/// A27: small events of other callers overtake a caller's many large events.
#[test]
fn callers_share_the_channel_by_bytes() {
    let mut queue = Queue::default();
    for event_number in 0..3 {
        push(&mut queue, event_number, "mallory", b'M', 10 * SLICE);
    }
    // One event is being written when the others arrive.
    assert!(queue.next_slice().unwrap().starts_with(b"M"));
    for event_number in 3..5 {
        push(&mut queue, event_number, "bob", b'b', 100);
        push(&mut queue, event_number, "carol", b'C', 6 * SLICE);
    }
    push(&mut queue, 5, "bob", b'B', 11 * SLICE);
    queue.push_control(event(b'!', 1)).unwrap();
    while !queue.next_slice().unwrap().ends_with(b"\n") {}
    assert_eq!(order(&mut queue), "!bbCMBCM");
    assert_eq!((queue.bytes, queue.events, queue.callers.len()), (0, 0, 1));
}

#[test]
fn a_withdrawn_event_is_not_written_or_is_cut() {
    let mut queue = Queue::default();
    let (one, two, three, four) = (1, 2, 3, 4);
    for (event_number, caller, byte) in
        [(one, "alice", b'1'), (two, "alice", b'2'), (three, "bob", b'3'), (four, "bob", b'4')]
    {
        push(&mut queue, event_number, caller, byte, 3 * SLICE);
    }
    assert!(queue.next_slice().unwrap().starts_with(b"1"));
    assert!(queue.withdraw(two, false) && !queue.withdraw(two, true), "a withdrawn event is withdrawn again");
    assert!(!queue.withdraw(one, false), "an event being written is withdrawn without a cut");
    assert!(queue.withdraw(four, true));
    assert_eq!(queue.bytes, 3 * SLICE + 1);
    assert!(queue.withdraw(one, true), "an event being written is not cut");
    assert_eq!(queue.next_slice().unwrap(), CUT);
    assert!(!queue.withdraw(one, true), "a cut event is withdrawn again");
    assert_eq!(order(&mut queue), "3");
    assert!(!queue.withdraw(three, true));
    push(&mut queue, 5, "bob", b'5', 10);
    queue.next_slice().unwrap();
    assert!(!queue.withdraw(5, true), "a written event is withdrawn");
    assert!(queue.next_slice().is_none());
}

/// A27: each caller may use half of what the others leave of a channel.
#[test]
fn a_caller_may_use_half_of_what_others_leave() {
    let mut queue = Queue::default();
    let size = 16 << 20;
    assert_eq!(fill(&mut queue, "mallory", size), (8, QueueFull::Caller));
    assert_eq!(fill(&mut queue, "bob", size), (4, QueueFull::Caller));
    assert_eq!(fill(&mut queue, "carol", 3 * size), (1, QueueFull::Channel));
    assert_eq!(fill(&mut queue, "dave", size), (1, QueueFull::Channel));
    let mut queue = Queue::default();
    for (part, caller) in [(2, "mallory"), (4, "bob"), (8, "carol")] {
        assert_eq!(fill(&mut queue, caller, 1), (MAX_EVENTS / part, QueueFull::Caller));
    }
}

#[derive(Debug, Clone)]
enum Op {
    Push { caller: usize, size: usize },
    Control,
    Withdraw(usize, bool),
    Slice,
}

fn any_op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![1..50_usize, SLICE..4 * SLICE];
    prop_oneof![
        3 => (0..CALLERS.len(), size).prop_map(|(caller, size)| Op::Push { caller, size }),
        1 => Just(Op::Control),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, can_cut)| Op::Withdraw(at, can_cut)),
        4 => Just(Op::Slice),
    ]
}

proptest! {
    /// Every event that is not withdrawn is written whole and once; a caller's events are in order, and control events
    /// overtake events that are not being written. In the end all counts are 0.
    #[test]
    fn events_that_are_not_withdrawn_are_written_whole_and_in_order(ops in prop::collection::vec(any_op(), 0..80)) {
        let (mut queue, mut event_numbers) = (Queue::default(), 0);
        // The event numbers and sizes, per caller.
        let mut waiting: [VecDeque<(u64, usize)>; CALLERS.len()] = std::array::from_fn(|_| VecDeque::new());
        let mut controls = 0;
        // The event that is being written: its number (`None` for a control event), and its remaining bytes.
        let mut writing: Option<(Option<u64>, usize)> = None;
        for op in ops.into_iter().chain(std::iter::repeat_n(Op::Slice, 2000)) {
            match op {
                Op::Push { caller, size } => {
                    event_numbers += 1;
                    push(&mut queue, event_numbers, CALLERS[caller], BYTES[caller], size);
                    waiting[caller].push_back((event_numbers, size + 1));
                }
                Op::Control => {
                    queue.push_control(event(b'!', 1)).unwrap();
                    controls += 1;
                }
                Op::Withdraw(at, can_cut) => {
                    let all: Vec<u64> = waiting.iter().flatten().map(|(number, _)| *number)
                        .chain(writing.and_then(|(number, _)| number)).collect();
                    if all.is_empty() {
                        continue;
                    }
                    let number = all[at % all.len()];
                    let is_writing = writing.is_some_and(|(of, _)| of == Some(number));
                    prop_assert_eq!(queue.withdraw(number, can_cut), !is_writing || can_cut);
                    if is_writing && can_cut {
                        prop_assert_eq!(queue.next_slice().unwrap(), CUT);
                        writing = None;
                    }
                    for events in &mut waiting {
                        events.retain(|(of, _)| *of != number);
                    }
                }
                Op::Slice => {
                    let Some(slice) = queue.next_slice() else {
                        prop_assert!(writing.is_none() && controls == 0 && waiting.iter().all(VecDeque::is_empty));
                        continue;
                    };
                    let (number, left) = match writing {
                        Some(writing) => writing,
                        None if controls > 0 => {
                            prop_assert!(slice.starts_with(b"!"));
                            controls -= 1;
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
            let callers: usize = waiting.iter().filter(|events| !events.is_empty()).count();
            prop_assert!(queue.callers.len() <= callers.max(1));
        }
        prop_assert_eq!((queue.bytes, queue.events), (0, 0));
    }
}
