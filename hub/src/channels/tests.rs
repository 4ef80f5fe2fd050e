//! What is counted of what waits on channels, and how it comes out of them.

use super::event::SLICE;
use super::*;
use crate::telemetry::Metrics;

const CALLER: &str = "carol";

/// A26, A27: what a user's publishers do not read is counted over all of their channels, however many, and no other
/// user's tasks wait for it; a caller may fill a part of it.
#[tokio::test]
async fn what_is_not_read_on_all_channels_of_a_user_is_counted_together() {
    const MOST: usize = SHARE * LEAST;
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    let channels = Channels::new(&Arc::new(MemoryBudget::new(None, machine)));
    let mut one = channels.open("one", "stream-1", true, "alice", MOST);
    let two = channels.open("two", "stream-2", true, "alice", MOST);
    let _other = channels.open("other", "stream-3", true, "bob", MOST);
    let large = Bytes::from(vec![0; LEAST]);
    let send = |session, caller| channels.send(session, caller, large.clone().into()).map(drop);
    for (session, caller) in [("one", "a"), ("one", "b"), ("two", "c"), ("two", "d")] {
        send(session, caller).unwrap();
    }
    assert!(!channels.has_room("two", "e", LEAST) && !channels.has_room("none", "e", 0));
    assert_eq!(send("two", "e"), Err(Unsent::Unreachable));
    assert!(channels.has_room("other", "e", LEAST) && !channels.has_room("other", "a", LEAST));
    send("other", "e").unwrap();
    assert_eq!(send("other", "a"), Err(Unsent::Crowded));
    // It is being written until the next one is asked for.
    one.next().await.unwrap();
    assert_eq!(send("two", "a"), Err(Unsent::Crowded));
    channels.tell("one", Bytes::from_static(b"x").into());
    while one.next().await.unwrap() != "x" {}
    send("two", "a").unwrap();
    // A channel that is replaced or closed takes nothing with it.
    channels.close("two", "stream-2");
    assert_eq!(send("two", "c"), Err(Unsent::Unreachable));
    drop(two);
    send("one", "c").unwrap();
}

/// A ticket of an older channel takes nothing back on a newer one.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written() {
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
async fn an_event_comes_whole_in_slices_however_it_was_put_together() {
    let channels = Channels::default();
    let mut receiver = channels.open("one", "stream-1", true, "alice", 1 << 30);
    for sizes in [&[3, 0, 4][..], &[0, SLICE, 0, 1], &[3 * SLICE + 1, 0, 5], &[0, 0]] {
        let pieces: Vec<_> =
            sizes.iter().zip(1..).map(|(size, byte)| Bytes::from(vec![byte; *size])).collect();
        channels.send("one", CALLER, Event::of(pieces.clone())).unwrap();
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
        assert_eq!(read, pieces.concat());
    }
}
