//! What a hub says on a connection that replaces another one.

use bytes::Bytes;

use crate::link::{
    BodyKind, Frame, Hello, HubEnd, Link, MAX_FRAME, MAX_TASKS, Piece, Received, Resume, Tables, Violation,
};

/// Both ends, with a task of which the registrar has answered `answered` bytes.
fn two_ends(answered: usize) -> (HubEnd, u64, Link) {
    let (mut hub, mut registrar) = (HubEnd::default(), Link::default());
    let (connection, tables) = hub.connect();
    registrar.resume(&tables).unwrap();
    hub.resume(connection, &registrar.tables()).unwrap();
    hub.push("t", BodyKind::Json, Bytes::from_static(b"{}"));
    hub.finish("t");
    to_registrar(&mut hub, connection, &mut registrar);
    registrar.push("t", BodyKind::Events, vec![0; answered].into());
    (hub, connection, registrar)
}

fn to_registrar(hub: &mut HubEnd, connection: u64, registrar: &mut Link) -> Vec<Received> {
    std::iter::from_fn(|| hub.next_frame(connection))
        .map(|bytes| registrar.receive(Frame::decode(&bytes).unwrap().unwrap()).unwrap())
        .collect()
}

/// Lengths of the pieces that the registrar sends.
fn to_hub(registrar: &mut Link, hub: &mut HubEnd, connection: u64) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(bytes) = registrar.next_frame() {
        match hub.receive(connection, Frame::decode(&bytes).unwrap().unwrap()).unwrap() {
            Received::Piece { piece, .. } => lengths.push(piece.bytes.len()),
            other => panic!("{other:?}"),
        }
    }
    lengths
}

/// P1: a caller leaves, or its answer is refused, while the registrar answers the hello.
#[test]
fn a_task_that_ended_between_hello_and_resume_is_cancelled() {
    let (mut hub, _, mut registrar) = two_ends(100);
    registrar.disconnect();
    let (connection, tables) = hub.connect();
    hub.cancel("t");
    registrar.resume(&tables).unwrap();
    hub.resume(connection, &registrar.tables()).unwrap();
    let told = to_registrar(&mut hub, connection, &mut registrar);
    assert_eq!(told, [Received::Cancelled("t".into())]);
}

#[test]
fn credit_that_was_granted_between_hello_and_resume_is_not_lost() {
    let (mut hub, older, mut registrar) = two_ends(2 << 20);
    let lengths = to_hub(&mut registrar, &mut hub, older);
    registrar.disconnect();
    let (connection, tables) = hub.connect();
    for length in lengths {
        hub.consumed("t", length);
    }
    registrar.resume(&tables).unwrap();
    hub.resume(connection, &registrar.tables()).unwrap();
    to_registrar(&mut hub, connection, &mut registrar);
    assert!(!to_hub(&mut registrar, &mut hub, connection).is_empty(), "no credit");
}

/// A task begins with a piece that keeps the rules.
#[test]
fn a_first_piece_against_the_rules_begins_no_task() {
    let (mut hub, connection, _) = two_ends(0);
    let bytes = vec![0; crate::link::MAX_PIECE + 1].into();
    let piece = Piece { seq: 0, kind: BodyKind::Json, is_last: true, bytes };
    assert!(hub.receive(connection, Frame::Piece { task: "new", piece }).is_err());
    assert!(hub.knows("t") && !hub.knows("new"));
}

/// A24: such a frame ends the connection, and no task.
#[test]
fn frames_that_only_a_hub_sends_are_violations_and_end_no_task() {
    let (mut hub, connection, _) = two_ends(0);
    for frame in [
        Frame::Taken { task: "t", status: 200 },
        Frame::Cancel { task: "t" },
        Frame::Superseded,
        Frame::Hello(Bytes::new()),
    ] {
        assert_eq!(hub.receive(connection, frame), Err(Violation::WrongEnd));
    }
    assert!(hub.knows("t"));
}

#[test]
fn a_connection_carries_nothing_before_its_resume() {
    let (mut hub, older, _) = two_ends(0);
    let (newer, _) = hub.connect();
    hub.cancel("t");
    assert!(hub.next_frame(newer).is_none());
    assert!(hub.next_frame(older).is_some());
    hub.resume(newer, &Tables::default()).unwrap();
    assert!(!hub.disconnect(older) && hub.is_carried());
    assert!(hub.disconnect(newer) && !hub.is_carried());
}

#[test]
fn a_greeting_with_all_tasks_that_a_registrar_may_have_fits_into_a_frame() {
    let tables = |count: usize| -> Tables {
        (0..count).map(|number| (format!("task-{number:036}"), [12, 345_678])).collect()
    };
    let json = Resume { tasks: tables(MAX_TASKS) }.to_json();
    assert!(Frame::Resume(json.clone()).encode().len() <= MAX_FRAME, "{}", json.len());
    assert!(Resume::parse(&json).is_some() && Hello::parse(&json).is_some());
    let more = Resume { tasks: tables(MAX_TASKS + 1) }.to_json();
    assert!(Resume::parse(&more).is_none() && Hello::parse(&more).is_none());
}
