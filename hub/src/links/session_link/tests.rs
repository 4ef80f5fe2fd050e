use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::link::{BodyKind, Link, Piece, Tables};

use super::state::MAX_CONTROL;
use super::*;
use crate::links::Links;
use crate::quota::Quota;

fn frames(link: &SessionLink, connection: u64, events: impl IntoIterator<Item = NextEvent>) -> Vec<Bytes> {
    let mut cx = Context::from_waker(Waker::noop());
    let mut events = events.into_iter();
    let mut next =
        || link.poll_frame(connection, &mut cx, |_| events.next().map_or(Poll::Pending, Poll::Ready));
    std::iter::from_fn(|| match next() {
        Poll::Ready(frame) => frame,
        Poll::Pending => None,
    })
    .collect()
}

fn task(number: usize, bytes: usize) -> NextEvent {
    NextEvent::Event {
        kind: EventKind::Task(format!("t{number}").into()),
        data: [Bytes::from(vec![b'x'; bytes])].into(),
        held: Default::default(),
    }
}

fn quota() -> ByteQuota {
    ByteQuota::new(&Arc::<Quota>::default(), "user", usize::MAX, "results")
}

fn piece(seq: u64, is_last: bool) -> Frame<'static> {
    let bytes = Bytes::from_static(b"12345");
    Frame::Piece { task: "t0", piece: Piece { seq, kind: BodyKind::Events, is_last, bytes } }
}

fn resumed(links: &Links) -> (Arc<SessionLink>, u64) {
    let (link, connection, _) = links.connect("session", "stream", "", []);
    assert_eq!(link.resume(connection, &Resume::default()), Ok(true));
    (link, connection)
}

fn answer(link: &SessionLink, connection: u64) -> mpsc::UnboundedReceiver<CountedPiece> {
    match link.receive(connection, piece(0, false), &quota()) {
        Ok(Arrival::Answer { pieces, .. }) => pieces,
        _ => panic!("no answer"),
    }
}

/// P3: a hub does not see at once that a connection broke.
#[test]
fn a_connection_that_was_replaced_is_given_no_frame_of_the_link() {
    let links = Links::default();
    let (link, older) = resumed(&links);
    assert!(!frames(&link, older, (0..MAX_READY).map(|number| task(number, 300 << 10))).is_empty());
    let (_, newer, _) = links.connect("session", "stream", "", []);
    let tasks = (0..MAX_READY).map(|number| (format!("t{number}"), [1, 256 << 10])).collect();
    link.resume(newer, &Resume { tasks }).unwrap();
    let told = frames(&link, older, [task(99, 10), NextEvent::Superseded]);
    assert_eq!(told, [Frame::Superseded.encode()]);
    let mut seen = Vec::new();
    for frame in frames(&link, newer, []) {
        let Ok(Some(Frame::Piece { task, piece })) = Frame::decode(&frame) else { panic!("{frame:?}") };
        seen.push((task.to_owned(), piece.seq));
    }
    seen.sort();
    let expected: Vec<_> =
        (0..MAX_READY).flat_map(|number| [1, 2].map(|seq| (format!("t{number}"), seq))).collect();
    assert_eq!(seen, expected);
}

/// A task that is sent again while the registrar has it must not be longer for that.
#[test]
fn a_task_that_the_link_knows_is_not_sent_twice() {
    let links = Links::default();
    let (link, connection) = resumed(&links);
    let sent = frames(&link, connection, [task(0, 10), task(0, 10)]);
    assert!(matches!(sent[..], [ref one] if one.len() < 40), "{sent:?}");
    assert_eq!(frames(&link, connection, [task(0, 10)]).len(), 0);
}

/// Otherwise an answer that its registrar never ends counts for its publisher until the hub ends.
#[tokio::test]
async fn an_answer_of_a_removed_link_ends() {
    let links = Links::default();
    let (link, connection) = resumed(&links);
    let mut pieces = answer(&link, connection);
    link.disconnect(connection);
    links.remove("session");
    assert!(pieces.recv().await.is_some());
    let end = timeout(Duration::from_secs(5), pieces.recv()).await.expect("it waits for more");
    assert!(end.is_none());
}

#[test]
fn a_link_that_was_removed_is_not_resumed() {
    let links = Links::default();
    let (link, connection, _) = links.connect("session", "stream", "", []);
    links.remove("session");
    assert_eq!(link.resume(connection, &Resume::default()), Ok(false));
}

#[test]
fn a_link_that_only_a_waiting_connection_uses_is_kept() {
    let links = Links::default();
    let (link, older, _) = links.connect("session", "stream", "", []);
    let (_, newer, _) = links.connect("session", "stream", "", []);
    link.disconnect(older);
    links.remove_unused("session");
    assert_eq!(link.resume(newer, &Resume::default()), Ok(true));
    assert!(Arc::ptr_eq(&links.connect("session", "stream", "", []).0, &link));
}

#[test]
fn a_link_without_connections_and_tasks_is_removed() {
    let links = Links::default();
    let (link, connection, _) = links.connect("session", "stream", "", []);
    link.disconnect(connection);
    links.remove_unused("session");
    assert!(links.of.lock().is_empty());
}

/// The token of a connection that was replaced says nothing about the newer one.
#[test]
fn a_connection_that_was_replaced_does_not_remove_its_link() {
    let links = Links::default();
    let (link, older) = resumed(&links);
    let (_, newer) = resumed(&links);
    assert_eq!(frames(&link, newer, [task(0, 10)]).len(), 1);
    links.remove_carried_by("session", &link, older);
    assert!(links.knows("session", "t0"));
    links.remove_carried_by("session", &link, newer);
    assert!(!links.knows("session", "t0"));
}

#[test]
fn an_invalid_resume_leaves_the_link_to_its_connection() {
    let links = Links::default();
    let (link, older) = resumed(&links);
    assert_eq!(frames(&link, older, [task(0, 10)]).len(), 1);
    let (_, newer, _) = links.connect("session", "stream", "", []);
    let tasks = [("t0".to_owned(), [7, 0])].into();
    assert_eq!(link.resume(newer, &Resume { tasks }), Err(Violation::NotSent));
    assert_eq!(frames(&link, older, [task(1, 10)]).len(), 1);
}

/// A24: frames of unknown kinds cost no credit, and come in one block with the pieces between them.
#[test]
fn a_small_piece_does_not_keep_the_block_in_which_it_came() {
    let links = Links::default();
    let (link, connection) = resumed(&links);
    let mut peer = Link::default();
    peer.resume(&Tables::default()).unwrap();
    peer.push("t0", BodyKind::Events, Bytes::from_static(b"data: 1\n\n"));
    let frame = peer.next_frame().unwrap();
    let block = Bytes::from([&frame[..], &vec![0; 60 << 10]].concat());
    let shared = block.slice(..frame.len());
    let arrival = link.receive(connection, Frame::decode(&shared).unwrap().unwrap(), &quota());
    drop((shared, frame));
    assert!(matches!(arrival, Ok(Arrival::Answer { .. })) && block.is_unique());
}

/// A24: callers that leave make a frame each, which a registrar that reads slowly does not take.
#[test]
fn no_task_is_sent_while_too_many_frames_wait() {
    let links = Links::default();
    let (link, connection) = resumed(&links);
    let mut cx = Context::from_waker(Waker::noop());
    let mut sent = 0;
    for _ in 0..1000 {
        let first = sent;
        let written = link.poll_frame(connection, &mut cx, |_| {
            sent += 1;
            Poll::Ready(task(sent, 10))
        });
        assert!(matches!(written, Poll::Ready(Some(_))));
        for number in first + 1..=sent {
            assert!(links.ended("session", &format!("t{number}"), false));
        }
        let waiting = links.waiting_control("session");
        assert!(waiting < MAX_CONTROL + (1 << 10), "{waiting}");
    }
    assert!(frames(&link, connection, []).len() > 100);
    assert_eq!(frames(&link, connection, [task(0, 10)]).len(), 1, "it goes on");
}

/// A24: a piece takes memory besides its bytes, and tiny ones are cheap to send.
#[test]
fn small_pieces_that_wait_count_together() {
    const MOST: usize = 64 << 10;
    let links = Links::default();
    let (link, connection) = resumed(&links);
    let quota = ByteQuota::new(&Arc::<Quota>::default(), "user", MOST, "results");
    let receive = |seq| {
        let piece = Piece { seq, kind: BodyKind::Events, is_last: false, bytes: Bytes::from_static(b":") };
        link.receive(connection, Frame::Piece { task: "t0", piece }, &quota).unwrap()
    };
    let Arrival::Answer { mut pieces, .. } = receive(0) else { panic!("no answer") };
    for seq in 1..1000 {
        assert!(matches!(receive(seq), Arrival::Nothing) && pieces.try_recv().is_ok());
        link.consumed("t0", 1);
    }
    assert!(links.knows("session", "t0"), "pieces that were passed on count");
    let mut waiting = 0;
    while links.knows("session", "t0") {
        receive(1000 + waiting);
        waiting += 1;
        assert!(waiting < 1000, "pieces that wait do not count");
    }
    assert!(waiting > 200, "{waiting}");
    drop(pieces);
    assert!(quota.take(MOST).is_ok(), "not all is returned");
}
