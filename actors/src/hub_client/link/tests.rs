//! Streams over a link without a connection: what would be written is read from its state.

use futures_util::FutureExt;
use wire::link::{Frame, WINDOW};

use super::*;

fn task() -> TaskId {
    TaskId::parse("t").unwrap()
}

/// A link whose hub knows `t`.
fn state() -> RegistrarLink {
    let state = RegistrarLink::default();
    state.link.borrow_mut().resume(&[("t".to_owned(), [0, WINDOW])].into()).unwrap();
    state
}

/// The bytes of all pieces that can be written, and whether the last one is the end.
fn written(state: &RegistrarLink) -> (Vec<u8>, bool) {
    let (mut bytes, mut is_ended) = (Vec::new(), false);
    while let Some(frame) = state.link.borrow_mut().next_frame() {
        if let Ok(Some(Frame::Piece { piece, .. })) = Frame::decode(&frame) {
            bytes.extend_from_slice(&piece.bytes);
            is_ended = piece.is_last;
        }
    }
    (bytes, is_ended)
}

#[actix::test]
async fn each_part_of_a_stream_can_be_written_at_once() {
    let (state, task, (sender, body)) = (state(), task(), mpsc::channel(2));
    let mut sending = Box::pin(state.send_stream(&task, body));
    for text in ["data: {}\n\n", "data: [DONE]\n\n"] {
        sender.try_send(Bytes::from(text)).unwrap();
        assert!((&mut sending).now_or_never().is_none());
        assert_eq!(written(&state), (text.as_bytes().to_vec(), false));
    }
    drop(sender);
    assert!((&mut sending).now_or_never().is_none(), "the hub has not decided");
    assert_eq!(written(&state), (Vec::new(), true));
    state.decide("t", Outcome::Taken);
    assert_eq!(sending.await, Outcome::Taken);
}

/// P3, F34: the hub must not take a part of a stream for the whole.
#[actix::test]
async fn a_dropped_stream_ends_without_an_end_mark() {
    let (state, task, (sender, body)) = (state(), task(), mpsc::channel(2));
    let mut sending = Box::pin(state.send_stream(&task, body));
    sender.try_send(Bytes::from_static(b"data: {}\n\n")).unwrap();
    assert!((&mut sending).now_or_never().is_none());
    drop(sending);
    assert_eq!(written(&state), (b"data: {}\n\n".to_vec(), true));
    assert_eq!(state.send_result(&task, Bytes::new()).await, Outcome::Gone, "the hub has failed the task");
}

/// F74, P7: without credit, a stream's source is not read.
#[actix::test]
async fn a_stream_without_credit_is_not_read() {
    const PART: usize = 16 << 10;
    let (state, task, (sender, body)) = (state(), task(), mpsc::channel(1));
    let mut sending = Box::pin(state.send_stream(&task, body));
    let (mut read, mut sent) = (0, 0);
    while sender.try_send(Bytes::from(vec![b'x'; PART])).is_ok() {
        read += PART;
        assert!((&mut sending).now_or_never().is_none());
        sent += written(&state).0.len();
    }
    let window = usize::try_from(WINDOW).unwrap();
    assert!(sent > window / 2 && sent <= window, "{sent}");
    assert!(read <= sent + MAX_PENDING + 3 * PART, "{read} read, {sent} sent");
}

#[actix::test]
async fn a_stream_ends_when_the_hub_decides_before_its_end() {
    let (state, task, (sender, body)) = (state(), task(), mpsc::channel(1));
    let mut sending = Box::pin(state.send_stream(&task, body));
    assert!((&mut sending).now_or_never().is_none());
    state.decide("t", Outcome::Gone);
    assert_eq!(sending.await, Outcome::Gone);
    assert!(sender.is_closed(), "the sender of the parts sees the end");
}
