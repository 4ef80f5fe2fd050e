//! How events on channels are counted and written.

use testkit::wait::wait_until;

use super::event::SLICE;
use super::*;
use crate::telemetry::Metrics;

const CALLER: &str = "carol";

/// A26, A27: unread events are counted per owner over all of the owner's channels, and each caller may use a share.
#[tokio::test]
async fn unread_events_are_counted_over_all_channels_of_an_owner() {
    const MOST: usize = SHARE * MIN_SHARE;
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    let channels = Channels::new(&Arc::new(MemoryBudget::new(None, machine)));
    let mut one = channels.open("one", "stream-1", true, "alice", MOST);
    let two = channels.open("two", "stream-2", true, "alice", MOST);
    let _other = channels.open("other", "stream-3", true, "bob", MOST);
    let large = Bytes::from(vec![0; MIN_SHARE]);
    let send = |session, caller| channels.send(session, caller, large.clone().into()).map(drop);
    for (session, caller) in [("one", "a"), ("one", "b"), ("two", "c"), ("two", "d")] {
        send(session, caller).unwrap();
    }
    assert!(!channels.has_room("two", "e", MIN_SHARE) && !channels.has_room("none", "e", 0));
    assert_eq!(send("two", "e"), Err(SendError::Full));
    assert!(channels.has_room("other", "e", MIN_SHARE) && !channels.has_room("other", "a", MIN_SHARE));
    send("other", "e").unwrap();
    assert_eq!(send("other", "a"), Err(SendError::CallerLimit));
    // An event counts until the next one is requested.
    one.next().await.unwrap();
    assert_eq!(send("two", "a"), Err(SendError::CallerLimit));
    channels.send_control("one", Bytes::from_static(b"x").into());
    while one.next().await.unwrap() != "x" {}
    send("two", "a").unwrap();
    // The events of a closed channel no longer count.
    channels.close("two", "stream-2");
    assert_eq!(send("two", "c"), Err(SendError::Unreachable));
    drop(two);
    send("one", "c").unwrap();
}

/// A withdrawn event is not written, also not on a channel that was replaced.
#[tokio::test]
async fn a_withdrawn_event_is_not_written() {
    let channels = Channels::default();
    let _older = channels.open("one", "stream-1", false, "alice", 1 << 30);
    let old = channels.send("one", CALLER, Bytes::from_static(b"old").into()).unwrap();
    let mut newer = channels.open("one", "stream-2", false, "alice", 1 << 30);
    channels.send("one", CALLER, Bytes::from_static(b"new").into()).unwrap();
    let dropped = channels.send("one", CALLER, Bytes::from_static(b"dropped").into()).unwrap();
    assert!(dropped.withdraw(true) && !dropped.withdraw(true));
    assert!(old.withdraw(true), "a replaced channel keeps it");
    channels.close("one", "stream-2");
    assert_eq!(newer.next().await.unwrap(), "new");
    assert_eq!(newer.next().await, None);
}

#[tokio::test]
async fn an_event_of_several_pieces_is_written_whole_in_slices() {
    let channels = Channels::default();
    let mut receiver = channels.open("one", "stream-1", true, "alice", 1 << 30);
    for sizes in [&[3, 0, 4][..], &[0, SLICE, 0, 1], &[3 * SLICE + 1, 0, 5], &[0, 0]] {
        let pieces: Vec<_> =
            sizes.iter().zip(1..).map(|(size, byte)| Bytes::from(vec![byte; *size])).collect();
        channels.send("one", CALLER, Event::task("t", pieces.clone())).unwrap();
        channels.send("one", CALLER, Bytes::from_static(b"end").into()).unwrap();
        let mut read = Vec::new();
        loop {
            let slice = receiver.next().await.unwrap();
            assert!((1..=SLICE).contains(&slice.len()));
            if slice == "end" {
                break;
            }
            read.extend_from_slice(&slice);
        }
        assert_eq!(read, [b"event: task\ndata: ", &pieces.concat()[..], b"\n\n"].concat());
    }
}

/// A24: half an event cannot be cut for a classic publisher. If its owner has no memory for the rest, the channel ends.
#[tokio::test]
async fn a_channel_ends_whose_owner_has_no_memory_for_the_rest_of_an_event() {
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    for (limit, is_kept) in [(1 << 30, true), (1 << 20, false)] {
        let memory = Arc::new(MemoryBudget::new(Some(limit), machine.clone()));
        let channels = Channels::new(&memory);
        let mut receiver = channels.open("one", "stream-1", false, "alice", 1 << 30);
        let large = Bytes::from(vec![b'x'; 4 << 20]);
        let sent = channels.send("one", CALLER, large.into()).unwrap();
        receiver.next().await.unwrap();
        assert!(!sent.end(false));
        assert_eq!(channels.unread_of(CALLER), [0; 2]);
        let expected = if is_kept { 4 << 20 } else { 0 };
        assert_eq!((channels.unread_of("alice")[1], memory.held()), (expected, expected as u64));
        assert_eq!(receiver.next().await.is_some(), is_kept);
        drop(receiver);
        assert_eq!(memory.held(), 0);
    }
}

/// A24: what a classic publisher has not read of a task that is over is a copy, which its owner holds, and the same bytes.
#[tokio::test]
async fn the_rest_of_an_event_whose_call_is_over_does_not_hold_the_callers_text() {
    for size in [4 * SLICE, 5 * SLICE + 1, 40 * SLICE] {
        for slices in [1, 2, size / SLICE - 1] {
            let text: Arc<[u8]> = (0..size).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
            let channels = Channels::default();
            let mut receiver = channels.open("one", "stream-1", false, "alice", 1 << 30);
            let sent =
                channels.send("one", CALLER, Bytes::from_owner(OfCaller(text.clone())).into()).unwrap();
            let mut read = Vec::new();
            for _ in 0..slices {
                read.extend(receiver.next().await.unwrap());
            }
            assert!(!sent.end(false));
            assert_eq!(channels.unread_of(CALLER), [0; 2]);
            // The copy of a large rest is made on another thread, while the publisher reads on.
            read.extend(receiver.next().await.unwrap());
            wait_until("the caller's text is free", || Arc::strong_count(&text) == 1).await;
            while read.len() < size {
                read.extend(receiver.next().await.unwrap());
            }
            assert!(read == *text, "{size} bytes, {slices} slices");
        }
    }
}

/// The text of a request.
struct OfCaller(Arc<[u8]>);

impl AsRef<[u8]> for OfCaller {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A24: the last slice of an event was copied, and nothing of it counts.
#[tokio::test]
async fn an_event_whose_last_slice_was_taken_counts_no_more_when_its_call_is_over() {
    let channels = Channels::default();
    let mut receiver = channels.open("one", "stream-1", false, "alice", 1 << 30);
    let sent = channels.send("one", CALLER, Bytes::from_static(b"small").into()).unwrap();
    assert_eq!(receiver.next().await.unwrap(), "small");
    assert_eq!(channels.unread_of(CALLER)[0], 5);
    assert!(!sent.end(false));
    assert_eq!((channels.unread_of(CALLER), channels.unread_of("alice")), ([0; 2], [0; 2]));
}

/// A24, A27: the rest of an event that is cut counts no more, although its publisher does not read on.
#[tokio::test]
async fn an_event_that_is_cut_counts_no_more() {
    let channels = Channels::default();
    let mut receiver = channels.open("one", "stream-1", true, "alice", 1 << 30);
    let sent = channels.send("one", CALLER, Bytes::from(vec![b'x'; 4 << 20]).into()).unwrap();
    assert_eq!(receiver.next().await.unwrap().len(), SLICE);
    assert!(sent.end(true));
    assert_eq!((channels.unread_of(CALLER), channels.unread_of("alice")), ([0; 2], [0; 2]));
    assert_eq!(receiver.next().await.unwrap(), "\n\n");
}

/// Of a task of another hub the host has the only copy: it counts in full, and ends with its caller.
#[tokio::test]
async fn a_task_of_another_hub_counts_for_the_owner_and_is_withdrawn() {
    const SIZE: usize = 200 << 10;
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    let memory = Arc::new(MemoryBudget::new(Some(1 << 30), machine));
    let channels = Channels::new(&memory);
    let mut receiver = channels.open("one", "stream-1", true, "alice", 1 << 30);
    for is_read in [false, true] {
        let mut counted = channels.count("alice", 1 << 30);
        counted.grow(SIZE).unwrap();
        let event = Event::task("t", vec![Bytes::from(vec![b'x'; SIZE])]);
        channels.send_counted("one", event, counted).unwrap();
        assert_eq!((channels.unread_of("alice")[0], memory.held()), (SIZE, SIZE as u64));
        if is_read {
            while receiver.next().await.unwrap() != "\n\n" {}
        }
        assert!(!channels.end_task("one", "other") && !channels.end_task("none", "t"));
        assert_eq!(channels.end_task("one", "t"), !is_read);
        assert_eq!((channels.unread_of("alice")[0], memory.held()), (0, 0));
    }
}
