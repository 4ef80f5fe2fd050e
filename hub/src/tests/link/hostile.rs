//! Registrars that have the hub keep something for them: all of it is bounded or counted (A24).

use std::cell::Cell;

use actix_codec::{Decoder, Encoder};
use bytes::BytesMut;
use wire::link::Tables;

use super::*;

/// Each answer for an unknown task makes a frame, which waits while the registrar does not read.
#[actix_rt::test]
async fn a_registrar_that_reads_nothing_is_not_read_while_too_much_waits() {
    const LIMIT: usize = 16 << 10;
    let (hub, session, peer) = linked().await;
    let Peer { mut socket, mut input, mut codec, .. } = peer;
    let (mut from_hub, mut to_hub) = socket.split();
    let (written, is_writing) = (Cell::new(0), Cell::new(true));
    let writing = async {
        while is_writing.get() {
            let name = format!("{:06}{}", written.get(), "n".repeat(200));
            let bytes = Bytes::from_static(RESULT.as_bytes());
            let piece = Piece { seq: 0, kind: BodyKind::Json, is_last: true, bytes };
            let frame = Frame::Piece { task: &name, piece }.encode();
            let mut out = BytesMut::new();
            ws::Codec::new().client_mode().encode(ws::Message::Binary(frame), &mut out).unwrap();
            to_hub.write_all(&out).await.unwrap();
            written.set(written.get() + 1);
            assert!(written.get() < 500_000, "the hub reads on");
        }
    };
    let reading = async {
        eventually("frames wait", async || {
            let waiting = hub.core().links.waiting_control(&session);
            assert!(waiting <= LIMIT + 512, "{waiting}");
            waiting >= LIMIT
        })
        .await;
        is_writing.set(false);
        // It is read on when it reads.
        let mut taken = 0;
        while taken < written.get() {
            match codec.decode(&mut input).unwrap() {
                Some(ws::Frame::Binary(frame)) => {
                    assert!(matches!(Frame::decode(&frame), Ok(Some(Frame::Taken { status: 404, .. }))));
                    taken += 1;
                }
                Some(_) => (),
                None => {
                    let read = timeout(PATIENCE, from_hub.read_buf(&mut input)).await;
                    assert!(read.expect("the hub stands still").unwrap() > 0);
                }
            }
        }
    };
    futures_util::join!(writing, reading);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_resume_that_is_longer_than_its_hello_allows_is_refused() {
    let tables =
        |count: usize| -> Tables { (0..count).map(|task| (format!("task-{task}"), [0, 0])).collect() };
    for (named, is_allowed) in [(20, true), (200, false)] {
        let (hub, session, _peer) = linked().await;
        let mut newer = Peer::connect(&hub, &session, Link::default()).await;
        newer.next_frame().await.unwrap();
        newer.write(Frame::Resume(Resume { tasks: tables(named) }.to_json()).encode()).await;
        let mut cancelled = 0;
        while cancelled < named
            && let Some(frame) = newer.next_frame().await
        {
            assert!(matches!(Frame::decode(&frame), Ok(Some(Frame::Cancel { .. }))), "{frame:?}");
            cancelled += 1;
        }
        assert_eq!(cancelled, if is_allowed { named } else { 0 });
        hub.stop().await;
    }
}

/// A registrar with many tasks may open any number of connections.
#[actix_rt::test]
async fn a_long_hello_counts_until_it_is_answered() {
    const TASKS: usize = 100;
    let (hub, session, mut peer) = linked().await;
    let held = || hub.core().quotas.memory.held();
    let before = held();
    let mut idle = Peer::connect(&hub, &session, Link::default()).await;
    idle.next_frame().await.unwrap();
    // The memory that each request for a link counts.
    let of_request = held() - before;
    drop(idle);
    eventually("it is returned", async || held() <= before).await;
    let calls: Vec<_> = (0..TASKS).map(|_| call(&hub, chat("hello", false))).collect();
    for _ in 0..TASKS {
        peer.task().await;
    }
    let before = held();
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let mut newer = Peer::connect(&hub, &session, Link::default()).await;
        newer.next_frame().await.unwrap();
        waiting.push(newer);
    }
    assert!(held() >= before + 5 * (of_request + (8 << 10)), "{before} {of_request} {}", held());
    let mut last = waiting.pop().unwrap();
    drop(waiting);
    // What the registrar has of the tasks: their only piece. The older link ends.
    let tasks = hub.core().dispatches.lock().of_session(&session);
    let tasks = tasks.into_iter().map(|task| (task, [1, wire::link::WINDOW])).collect();
    last.write(Frame::Resume(Resume { tasks }.to_json()).encode()).await;
    eventually("the older link has ended", async || held() < before + of_request).await;
    assert_eq!(held(), before, "the hello counts on");
    calls.iter().for_each(actix_rt::task::JoinHandle::abort);
    hub.stop().await;
}

/// A24: a registrar that pings and does not read gets no pongs beyond a few. Half a frame counts.
#[actix_rt::test]
async fn what_a_connection_buffers_is_little_or_counts() {
    const PINGS: usize = 100_000;
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut peer = Peer::start(&hub, &alice, &[provider("al")]).await;
    let counted = || hub.core().quotas.results.taken_by("alice");
    let mut ping = BytesMut::new();
    ws::Codec::new()
        .client_mode()
        .encode(ws::Message::Ping(Bytes::from(vec![b'p'; 120])), &mut ping)
        .unwrap();
    // Their pongs are more than the buffers of the system hold.
    for _ in 0..PINGS / 100 {
        peer.socket.write_all(&ping.repeat(100)).await.unwrap();
        assert_eq!(counted(), 0, "pongs wait");
    }
    let mut half = vec![0x82, 0x80 | 127];
    half.extend_from_slice(&60_000_u64.to_be_bytes());
    half.extend_from_slice(&[0; 4]);
    // A frame of an unknown kind.
    half.extend_from_slice(&vec![0xff; 50_000]);
    peer.socket.write_all(&half).await.unwrap();
    eventually("half a frame counts", async || counted() >= 50_000).await;
    assert!(counted() < 60_000, "{}", counted());
    peer.socket.write_all(&vec![0xff; 10_000]).await.unwrap();
    eventually("a whole frame counts no more", async || counted() == 0).await;
    hub.stop().await;
}
