//! How events on channels are counted and written.

use super::queue::SLICE;
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

/// A withdrawn event is not written, and an event number of an older channel withdraws nothing from a newer one.
#[tokio::test]
async fn a_withdrawn_event_is_not_written() {
    let channels = Channels::default();
    let _older = channels.open("one", "stream-1", false, "alice", 1 << 30);
    let old = channels.send("one", CALLER, Bytes::from_static(b"old").into()).unwrap();
    let mut newer = channels.open("one", "stream-2", false, "alice", 1 << 30);
    channels.send("one", CALLER, Bytes::from_static(b"new").into()).unwrap();
    let dropped = channels.send("one", CALLER, Bytes::from_static(b"dropped").into()).unwrap();
    assert!(!channels.withdraw("one", old, true));
    assert!(channels.withdraw("one", dropped, true));
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
