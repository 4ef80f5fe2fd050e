//! Single cases of what two ends send each other.

use bytes::Bytes;

use crate::link::{BodyKind, Credit, Frame, Link, Piece, Received, Violation, WINDOW};

/// A peer that reads the rest of a connection after its hello on the next one counts it before it has come again.
#[test]
fn an_acknowledgement_of_pieces_that_come_again_is_no_violation() {
    let (mut hub, mut registrar) = two_ends();
    registrar.push("t", BodyKind::Events, vec![0; 200 << 10].into());
    carry(&mut registrar, &mut hub);
    registrar.disconnect();
    registrar.resume(&[("t".to_owned(), [1, WINDOW])].into()).unwrap();
    let credit = |taken| Frame::Credit { task: "t", credit: Credit { granted: 0, taken } };
    assert!(registrar.receive(credit(3)).is_ok());
    let sent: Vec<_> = std::iter::from_fn(|| registrar.next_frame()).collect();
    assert!(
        matches!(sent[..], [ref last] if matches!(Frame::decode(last), Ok(Some(Frame::Piece { piece, .. })) if piece.seq == 3))
    );
    assert_eq!(registrar.receive(credit(5)), Err(Violation::NotSent));
}

fn two_ends() -> (Link, Link) {
    let (mut hub, mut registrar) = (Link::default(), Link::default());
    registrar.resume(&hub.tables()).unwrap();
    hub.resume(&registrar.tables()).unwrap();
    (hub, registrar)
}

fn carry(from: &mut Link, to: &mut Link) -> Vec<Result<Received, Violation>> {
    std::iter::from_fn(|| from.next_frame())
        .map(|bytes| to.receive(Frame::decode(&bytes).unwrap().unwrap()))
        .collect()
}

#[test]
fn a_small_task_waits_for_one_piece_of_a_large_one() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("large", BodyKind::Json, vec![0; 200_000].into());
    hub.push("small", BodyKind::Json, Bytes::from_static(b"{}"));
    hub.send_control(&Frame::Superseded);
    let order: Vec<_> = carry(&mut hub, &mut registrar)
        .into_iter()
        .map(|received| match received.unwrap() {
            Received::Piece { task, .. } => task.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(order, ["Superseded", "large", "small", "large", "large", "large"]);
}

#[test]
fn a_peer_that_sends_beyond_its_credit_is_cut_off() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, vec![0; 1 << 20].into());
    let pieces = carry(&mut hub, &mut registrar);
    assert!(pieces.iter().all(Result::is_ok) && pieces.len() == 3, "{}", pieces.len());
    let piece = |seq, bytes: usize| Frame::Piece {
        task: "t",
        piece: Piece { seq, kind: BodyKind::Json, is_last: true, bytes: vec![0; bytes].into() },
    };
    assert_eq!(registrar.receive(piece(3, (64 << 10) + 1)), Err(Violation::BeyondCredit));
    assert_eq!(registrar.receive(piece(3, 64 << 10)), Err(Violation::BeyondCredit));
    assert_eq!(registrar.receive(piece(4, 1)), Err(Violation::OutOfOrder));
    assert!(registrar.receive(piece(3, 1)).is_ok());
    assert_eq!(registrar.receive(piece(4, 1)), Err(Violation::BehindEnd));
    assert_eq!(registrar.receive(piece(0, 1)), Ok(Received::Nothing), "it came before");
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_is_a_violation() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, vec![0; 1 << 20].into());
    carry(&mut hub, &mut registrar);
    let credit = |taken| Frame::Credit { task: "t", credit: Credit { granted: 0, taken } };
    assert_eq!(hub.receive(credit(4)), Err(Violation::NotSent));
    assert!(hub.receive(credit(3)).is_ok());
    hub.disconnect();
    for received in [2, 4] {
        let tables = [("t".to_owned(), [received, WINDOW])].into();
        assert_eq!(hub.resume(&tables), Err(Violation::NotSent), "{received}");
    }
}

/// A registrar that was killed and is back knows no task.
#[test]
fn the_hub_learns_which_tasks_a_registrar_lost() {
    let (mut hub, mut registrar) = two_ends();
    hub.push("t", BodyKind::Json, Bytes::from_static(b"{}"));
    carry(&mut hub, &mut registrar);
    hub.disconnect();
    let mut registrar = Link::default();
    registrar.resume(&hub.tables()).unwrap();
    assert_eq!(hub.resume(&registrar.tables()), Ok(vec!["t".into()]));
    assert!(!hub.knows("t") && hub.next_frame().is_none());
}

#[test]
fn a_greeting_comes_first_and_once() {
    let (mut hub, _) = two_ends();
    assert_eq!(hub.receive(Frame::Resume(Bytes::new())), Err(Violation::GreetedTwice));
    assert_eq!(Link::default().receive(Frame::Superseded), Err(Violation::NotGreeted));
}
