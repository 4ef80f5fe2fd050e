//! Bodies in both directions: unchanged, as they come, and cancelled with their caller.

use std::{cell::Cell, rc::Rc, time::Duration};

use proptest::prelude::*;
use testkit::{
    client::Answer,
    connection::{SSE, chunked},
    wait::PATIENCE,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    time::timeout,
};

use super::Scene;

/// A body, and how it is sent.
#[derive(Debug, Clone)]
struct Sent {
    bytes: Vec<u8>,
    /// Sizes of the pieces, over and over.
    cuts: Vec<usize>,
    /// Whether each piece is a chunk; else the body has a length.
    is_chunked: bool,
}

impl Sent {
    fn new(size: usize, seed: usize, cuts: Vec<usize>, is_chunked: bool) -> Self {
        // The remainder of a division by a prime: no piece equals another.
        let bytes = (0..size).map(|n| u8::try_from((n * 31 + seed) % 251).unwrap()).collect();
        Self { bytes, cuts, is_chunked }
    }

    /// The header of its framing.
    fn header(&self) -> String {
        if self.is_chunked {
            "transfer-encoding: chunked\r\n".to_owned()
        } else {
            format!("content-length: {}\r\n", self.bytes.len())
        }
    }

    /// The pieces as they are written.
    fn pieces(&self) -> Vec<Vec<u8>> {
        let (mut rest, mut pieces) = (self.bytes.as_slice(), Vec::new());
        for cut in self.cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            rest = after;
            pieces.push(if self.is_chunked {
                [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
            } else {
                piece.to_owned()
            });
        }
        if self.is_chunked {
            pieces.push(b"0\r\n\r\n".to_vec());
        }
        pieces
    }
}

fn any_body() -> impl Strategy<Value = Sent> {
    let size = prop_oneof![3 => 0_usize..100, 2 => 0_usize..200_000];
    let cuts =
        prop_oneof![prop::collection::vec(1_usize..40, 1..5), prop::collection::vec(500_usize..90_000, 1..5)];
    (size, 0_usize..251, cuts, any::<bool>()).prop_map(|(size, seed, cuts, is_chunked)| {
        // Thousands of pieces of a byte each take too long.
        let cuts = if size > 5_000 { cuts.iter().map(|cut| cut.max(&500)).copied().collect() } else { cuts };
        Sent::new(size, seed, cuts, is_chunked)
    })
}

/// Sends each first body to a hub that answers with the second.
async fn exchange(bodies: Vec<(Sent, Sent)>) {
    let answers: Vec<Sent> = bodies.iter().map(|(_, down)| down.clone()).collect();
    let (received, next) = (Rc::new(std::cell::RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let (seen, at) = (Rc::clone(&received), Rc::clone(&next));
    let scene = Scene::start(async move |mut connection| {
        loop {
            let request = connection.request().await?;
            seen.borrow_mut().push(request.body);
            let answer = &answers[at.replace(at.get() + 1)];
            connection.write(format!("HTTP/1.1 200 OK\r\n{}\r\n", answer.header())).await?;
            for piece in answer.pieces() {
                connection.write(piece).await?;
            }
        }
    });
    for (n, (up, down)) in bodies.iter().enumerate() {
        let mut socket = scene.send(&format!("POST /v1/embeddings HTTP/1.1\r\n{}", up.header()), b"").await;
        for piece in up.pieces() {
            socket.write_all(&piece).await.unwrap();
        }
        let mut answer = timeout(PATIENCE, Answer::read(socket)).await.unwrap().unwrap();
        assert_eq!(answer.status, 200);
        let mut got = Vec::new();
        while let Some(piece) = timeout(PATIENCE, answer.next()).await.unwrap().unwrap() {
            got.extend(piece);
        }
        assert!(got == down.bytes, "{} bytes down, not {}", got.len(), down.bytes.len());
        assert!(received.borrow()[n] == up.bytes, "{} bytes up", received.borrow()[n].len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

    #[test]
    fn bodies_of_any_size_and_cut_pass_unchanged(
        bodies in prop::collection::vec((any_body(), any_body()), 1..4)
    ) {
        actix_rt::System::new().block_on(exchange(bodies));
    }
}

#[actix_rt::test]
async fn twenty_megabytes_pass_in_both_directions() {
    for is_chunked in [false, true] {
        let body = |seed| Sent::new(20 << 20, seed, vec![60_000, 7], is_chunked);
        exchange(vec![(body(1), body(2))]).await;
    }
}

#[actix_rt::test]
async fn pieces_pass_as_they_come() {
    let scene = Scene::start(async |mut connection| {
        connection.head().await?;
        connection.write(SSE).await?;
        // The chunks of the request are those of the answer.
        let (mut from, mut to) = connection.halves();
        copy(&mut from, &mut to).await.map(|_| ())
    });
    let head = "POST /v1/chat/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
    let mut socket = scene.send(head, b"").await;
    let mut read = Vec::new();
    // Otherwise the hub would read a chunk together with the head.
    while !read.ends_with(b"\r\n\r\n") {
        assert!(timeout(PATIENCE, socket.read_buf(&mut read)).await.unwrap().unwrap() > 0);
    }
    for n in 0..20 {
        let chunk = chunked(&format!("piece {n}"));
        socket.write_all(chunk.as_bytes()).await.unwrap();
        while !read.ends_with(chunk.as_bytes()) {
            let reading = timeout(PATIENCE, socket.read_buf(&mut read)).await;
            assert!(reading.expect("the piece has not come").unwrap() > 0);
        }
    }
}

/// Bytes of the answer to a caller that does not read.
const FLOOD: usize = 64 << 20;

#[actix_rt::test]
async fn a_caller_that_does_not_read_holds_the_hub_back() {
    let stalled = Rc::new(Cell::new(None));
    let at = Rc::clone(&stalled);
    let scene = Scene::start(async move |mut connection| {
        connection.request().await?;
        connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {FLOOD}\r\n\r\n")).await?;
        let (_, mut to) = connection.halves();
        let block = vec![b'x'; 64 << 10];
        for n in 0..FLOOD / block.len() {
            let mut writing = std::pin::pin!(to.write_all(&block));
            if timeout(Duration::from_secs(1), &mut writing).await.is_err() {
                at.set(at.get().or(Some(n * block.len())));
                writing.await?;
            }
        }
        Ok(())
    });
    let mut answer = scene.ask("GET /v1/models HTTP/1.1\r\n", b"").await;
    testkit::wait::wait_until("the hub is held back", || stalled.get().is_some()).await;
    // The buffers of four sockets.
    assert!(stalled.get().unwrap() < FLOOD / 2, "{:?}", stalled.get());
    let mut count = 0;
    while let Some(piece) = answer.next().await.unwrap() {
        count += piece.len();
    }
    assert_eq!(count, FLOOD);
}

#[actix_rt::test]
async fn the_hub_sees_at_once_that_a_caller_has_left() {
    for begins in [false, true] {
        let left = Rc::new(Cell::new(false));
        let seen = Rc::clone(&left);
        let scene = Scene::start(async move |mut connection| {
            connection.request().await?;
            if begins {
                connection.write(format!("{SSE}{}", chunked("data: 1\n\n"))).await?;
            }
            connection.closed().await;
            seen.set(true);
            Ok(())
        });
        let mut socket =
            scene.send("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n", b"{}").await;
        if begins {
            socket.read_u8().await.unwrap();
        } else {
            testkit::wait::wait_until("the request is there", || scene.hub.connections() == 1).await;
        }
        drop(socket);
        testkit::wait::wait_until("the hub sees it", || left.get()).await;
    }
}

#[actix_rt::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_owned(),
        format!("{SSE}{}", chunked("data: 1\n\n")),
        format!("{SSE}ff\r\nabc"),
    ] {
        let bytes = answer.clone();
        let scene = Scene::start(async move |mut connection| {
            connection.request().await?;
            connection.write(&bytes).await
        });
        let got = scene.ask("GET /v1/models HTTP/1.1\r\n", b"").await;
        assert!(timeout(PATIENCE, got.text()).await.unwrap().is_err(), "{answer:?}");
    }
}
