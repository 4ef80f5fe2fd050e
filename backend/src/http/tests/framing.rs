//! Bodies in any framing, after interim answers, and cut at any byte.

use proptest::prelude::*;
use testkit::cases;
use testkit::peer::Listener;

use super::*;

/// The framing of an answer.
#[derive(Debug, Clone)]
enum Framing {
    Length,
    /// Two `content-length` headers; the second is larger by this number.
    Lengths(usize),
    Chunks(Vec<usize>),
    UntilClosed,
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::Length),
        prop_oneof![Just(0), 1_usize..99].prop_map(Framing::Lengths),
        prop::collection::vec(1_usize..2000, 1..5).prop_map(Framing::Chunks),
        Just(Framing::UntilClosed),
    ]
}

fn framed(framing: &Framing, interim: &[u16], body: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> =
        interim.iter().flat_map(|status| format!("HTTP/1.1 {status} Wait\r\n\r\n").into_bytes()).collect();
    match framing {
        Framing::Length => {
            out.extend(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).bytes());
            out.extend(body);
        }
        Framing::Lengths(more) => {
            let (one, other) = (body.len(), body.len() + more);
            let lengths = format!("content-length: {one}\r\ncontent-length: {other}");
            out.extend(format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n").bytes());
            out.extend(body);
        }
        Framing::Chunks(sizes) => {
            out.extend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n");
            let (mut rest, mut sizes) = (body, sizes.iter().cycle());
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                // hyper rejects more than 16 KiB of chunk extensions in one body.
                let extension = if out.len() < 8 << 10 { ";x=y" } else { "" };
                out.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
                rest = after;
            }
            out.extend(b"0\r\nx-trailer: y\r\n\r\n");
        }
        Framing::UntilClosed => {
            out.extend(b"HTTP/1.1 200 OK\r\n\r\n");
            out.extend(body);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// A body of any size, in any framing, written in any pieces, after any interim answers, arrives unchanged. A cut body is an
    /// error, unless its end is the end of the connection.
    #[test]
    fn a_body_in_any_framing_arrives_whole_or_is_an_error(
        size in 0_usize..200_000,
        framing in framing(),
        interim in prop::collection::vec(prop_oneof![Just(100_u16), Just(102), Just(103), Just(199)], 0..3),
        write in 1_usize..100_000,
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let body: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let whole = framed(&framing, &interim, &body);
        let end = cut.map_or(whole.len(), |cut| cut.index(whole.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = Listener::bind().await;
            let serving = async {
                let mut connection = listener.accept().await;
                connection.request().await.unwrap();
                for piece in whole[..end].chunks(write) {
                    // The client closes the connection after an invalid head.
                    if connection.write(piece).await.is_err() {
                        break;
                    }
                }
            };
            let asking = async {
                let client = Client::new(None);
                let answer = client.send(post(&listener.url(), "x"), LIMIT).await.ok()?;
                read_body(answer.into_body(), 1 << 20, LIMIT).await.ok()
            };
            futures_util::join!(serving, asking).1
        });
        let is_doubtful = matches!(framing, Framing::Lengths(1..));
        match got {
            Some(_) if is_doubtful => prop_assert!(false, "an answer with two lengths was accepted"),
            Some(got) if end == whole.len() => prop_assert!(got == body),
            Some(got) => {
                prop_assert!(matches!(framing, Framing::UntilClosed), "a cut body was accepted");
                prop_assert!(body.starts_with(&got));
            }
            None => prop_assert!(end < whole.len() || is_doubtful, "an answer was lost"),
        }
    }
}
