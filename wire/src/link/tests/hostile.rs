//! A peer that reads nothing, or grants what it should not: what an end keeps for it is bounded (A24).

use bytes::Bytes;

use crate::link::{BodyKind, Credit, Frame, Link, MAX_PIECE, Piece, Tables, Violation, WINDOW};

/// An end whose peer has greeted, and has no task.
fn carried() -> Link {
    let mut link = Link::default();
    link.resume(&Tables::default()).unwrap();
    link
}

/// Sends `link` a piece of `task`, whose cost is [`MAX_PIECE`], and uses it up.
fn feed(link: &mut Link, task: &str, seq: u64) {
    let bytes = Bytes::from(vec![0; MAX_PIECE - 64]);
    let piece = Piece { seq, kind: BodyKind::Json, is_last: false, bytes };
    link.receive(Frame::Piece { task, piece }).unwrap();
    assert!(link.consumed(task, MAX_PIECE - 64));
}

fn sent(link: &mut Link) -> Vec<Bytes> {
    std::iter::from_fn(|| link.next_frame()).collect()
}

fn credit(granted: u64, taken: u64) -> Frame<'static> {
    Frame::Credit { task: "t", credit: Credit { granted, taken } }
}

#[test]
fn credit_for_a_peer_that_reads_nothing_waits_once_for_each_task() {
    let mut link = carried();
    for (task, seq) in ["t", "u"].into_iter().flat_map(|task| (0..1000).map(move |seq| (task, seq))) {
        feed(&mut link, task, seq);
    }
    assert_eq!((link.waiting_grants(), link.waiting_control()), (2, 0));
    let granted = WINDOW + 1000 * MAX_PIECE as u64;
    let expected =
        ["t", "u"].map(|task| Frame::Credit { task, credit: Credit { granted, taken: 1000 } }.encode());
    assert_eq!(sent(&mut link), expected);
    feed(&mut link, "t", 1000);
    assert_eq!(sent(&mut link), [credit(granted + MAX_PIECE as u64, 1001).encode()]);
}

#[test]
fn tasks_that_have_ended_leave_nothing_in_a_queue() {
    let mut link = carried();
    for number in 0..1000 {
        let task = if number % 2 == 0 { "t".to_owned() } else { format!("t{number}") };
        feed(&mut link, &task, 0);
        link.push(&task, BodyKind::Events, Bytes::from_static(b"data: {}\n\n"));
        let frame = match number % 3 {
            0 => Frame::Cancel { task: &task },
            _ => Frame::Taken { task: &task, status: 200 },
        };
        link.receive(frame).unwrap();
    }
    assert_eq!((link.len(), link.ready(), link.waiting_grants(), link.waiting_control()), (0, 0, 0, 0));
}

/// Otherwise an end keeps whole answers for a peer that takes no piece of them.
#[test]
fn credit_beyond_the_window_is_a_violation() {
    const COST: u64 = MAX_PIECE as u64 + 64;
    let begun = || {
        let mut link = carried();
        link.push("t", BodyKind::Events, vec![0; 1 << 20].into());
        assert_eq!(sent(&mut link).len(), 3);
        link
    };
    for (granted, taken, is_allowed) in [
        (WINDOW, 0, true),
        (WINDOW + 1, 0, false),
        (u64::MAX, 0, false),
        (WINDOW + 2 * COST, 2, true),
        (WINDOW + 2 * COST + 1, 2, false),
        (u64::MAX, 3, false),
    ] {
        let expected = if is_allowed { None } else { Some(Violation::BeyondWindow) };
        assert_eq!(begun().receive(credit(granted, taken)).err(), expected, "{granted} {taken}");
        let mut link = begun();
        link.disconnect();
        let tables = [("t".to_owned(), [taken, granted])].into();
        assert_eq!(link.resume(&tables).err(), expected, "{granted} {taken} in a table");
    }
    // An older frame that comes late.
    let mut link = begun();
    assert!(link.receive(credit(WINDOW + 2 * COST, 2)).is_ok());
    assert!(link.receive(credit(WINDOW + COST, 1)).is_ok());
}
