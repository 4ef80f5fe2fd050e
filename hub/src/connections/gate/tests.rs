//! What a gate lets through of what came, over real sockets.

use actix_http::{Payload, Request};
use actix_web::http::header::CONTENT_LENGTH;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::connections::limits::ConnectionLimits;
use crate::connections::table::Table;
use crate::telemetry::Metrics;

/// Nothing in a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a server reads at once.
const READ: usize = 8 << 10;

fn table() -> Rc<Table> {
    let limits = ConnectionLimits { all: 9, strangers: 9, members: 9, of_member: 9, of_address: None };
    Table::new(limits, Metrics::new().unwrap().of_machine().unwrap())
}

/// A gate, and its caller's end.
async fn gate(table: &Rc<Table>) -> (Gate, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (peer, accepted) = futures_util::join!(connecting, listener.accept());
    let place = table.admit([10, 0, 0, 1].into(), false);
    (Gate::new(Wire::Plain(accepted.unwrap().0), place), peer.unwrap())
}

/// The next of what is let through; empty at the end.
async fn next(gate: &mut Gate) -> String {
    let mut bytes = vec![0; READ];
    let read = timeout(PATIENCE, gate.read(&mut bytes)).await.expect("nothing is let through").unwrap();
    bytes.truncate(read);
    String::from_utf8(bytes).unwrap()
}

/// Nothing is let through, however often the server asks.
fn is_shut(gate: &mut Gate) -> bool {
    let mut bytes = vec![0; READ];
    (0..9).all(|_| gate.read(&mut bytes).now_or_never().is_none())
}

fn body() -> Request {
    let mut request: Request =
        Request::with_payload(Payload::Stream { payload: Box::pin(stream::pending()) });
    request.head_mut().headers_mut().insert(CONTENT_LENGTH, "9".parse().unwrap());
    request
}

/// Where heads that are not whole take all the memory there is for them, one more that is large is refused in words; a
/// small one waits for its rest, and what was whole counts no more.
#[actix_rt::test]
async fn a_large_head_that_is_not_whole_ends_where_others_take_all() {
    let table = table();
    let (mut plain, mut caller) = gate(&table).await;
    let part = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9 << 10));
    caller.write_all(part.as_bytes()).await.unwrap();
    let mut came = 0;
    while came < part.len() {
        came += next(&mut plain).await.len();
    }
    drop(plain);
    assert_eq!(table.heads(), 0);
    let mut full = Vec::new();
    for address in 0_u16.. {
        let [high, low] = address.to_be_bytes();
        full.push(table.admit([10, 0, high, low].into(), false));
        if !full[full.len() - 1].head_grows(16 << 10) {
            break;
        }
    }
    for (size, is_refused) in [(4 << 10, false), (9 << 10, true)] {
        let (mut gate, mut caller) = gate(&table).await;
        let head = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(size));
        caller.write_all(head.as_bytes()).await.unwrap();
        let mut came = 0;
        while came < head.len() {
            let part = next(&mut gate).await;
            came += part.len();
            if part.is_empty() {
                break;
            }
        }
        assert_eq!(came < head.len(), is_refused, "{came} of {size}");
        drop(gate);
        let mut said = String::new();
        let _ = timeout(PATIENCE, caller.read_to_string(&mut said)).await.expect("it is closed");
        assert_eq!(
            said.starts_with("HTTP/1.1 503 ") && said.contains("too many large heads"),
            is_refused,
            "{said}"
        );
    }
    drop(full);
    assert_eq!(table.heads(), 0);
}

/// Behind a request nothing but its own body is let through until it is answered, and of what came no more is taken from
/// the system than there is room for.
#[actix_rt::test]
async fn the_next_request_waits_until_the_last_one_is_answered() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    // As much as a connection holds whose other end reads nothing.
    let all = HEAD.repeat((56 << 10) / HEAD.len());
    caller.write_all(all.as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, HEAD);
    let flow = gate.flow().clone();
    let open = flow.begin(&mut Request::new());
    assert!(is_shut(&mut gate));
    assert!(gate.held.len() < HELD + READ, "{} are held", gate.held.len());
    flow.wrote(false);
    drop(open);
    assert!(is_shut(&mut gate), "the answer is not written");
    flow.wrote(true);
    assert_eq!(next(&mut gate).await, HEAD);
    assert!(is_shut(&mut gate) || gate.head_is_through, "one at a time");
}

/// A27: one who leaves in the middle of its call is noticed, however much it has sent behind it, and whether it closes or
/// breaks off; one who stays is not.
#[actix_rt::test]
async fn one_who_leaves_is_noticed_behind_whatever_it_has_sent() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    // As much as the system takes in whatever is read.
    for (behind, breaks) in [(0, false), (HELD, false), (40_000, false), (40_000, true)] {
        let (mut gate, mut caller) = gate(&table).await;
        caller.write_all(HEAD.as_bytes()).await.unwrap();
        assert_eq!(next(&mut gate).await, HEAD);
        let _open = gate.flow().clone().begin(&mut Request::new());
        caller.write_all(&vec![b'G'; behind]).await.unwrap();
        let mut bytes = vec![0; READ];
        let waits = timeout(2 * LOOK, gate.read(&mut bytes)).await;
        assert!(waits.is_err(), "{behind}: it is still there, and nothing is let through");
        if breaks {
            caller.set_zero_linger().unwrap();
        }
        drop(caller);
        let left = timeout(Duration::from_secs(1), gate.read(&mut bytes)).await;
        let left = left.unwrap_or_else(|_| panic!("not noticed behind {behind} bytes"));
        assert!(left.as_ref().map_or(breaks, |read| *read == 0), "{left:?}");
        assert!(gate.held.len() <= HELD + READ);
    }
}

/// A25: one without a token that has to make room does so when its answer is written, however many requests it has sent
/// behind that; one that has not asked yet may.
#[actix_rt::test]
async fn a_stranger_makes_room_whatever_it_has_sent_behind_its_request() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    caller.write_all(HEAD.repeat(900).as_bytes()).await.unwrap();
    let flow = gate.flow().clone();
    for _ in 0..3 {
        assert_eq!(next(&mut gate).await, HEAD);
        let open = flow.begin(&mut Request::new());
        assert!(is_shut(&mut gate));
        drop(open);
    }
    flow.cut(Cut::Hub);
    assert_eq!(next(&mut gate).await, "");
    drop(gate);
    let mut said = [0; 12];
    caller.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 503");
    let (mut gate, mut caller) = self::gate(&table).await;
    caller.write_all(HEAD.as_bytes()).await.unwrap();
    gate.flow().cut(Cut::Hub);
    assert_eq!(next(&mut gate).await, HEAD);
}

/// Of a request whose length is known so much is let through, whatever comes with it.
#[actix_rt::test]
async fn a_body_is_let_through_to_its_end_and_no_further() {
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    let head = "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n";
    caller.write_all(format!("{head}123456789{head}").as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, head);
    let flow = gate.flow().clone();
    let open = flow.begin(&mut body());
    assert_eq!(next(&mut gate).await, "123456789");
    assert!(is_shut(&mut gate));
    drop(open);
    assert_eq!(next(&mut gate).await, head);
}

/// One without a token that has to make room does so at once, also while nobody takes what it is to be told.
#[actix_rt::test]
async fn a_stranger_who_does_not_read_makes_room_at_once() {
    let table = table();
    let (mut gate, _caller) = gate(&table).await;
    let flow = gate.flow().clone();
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let mut write = Box::pin(async move { while gate.write_all(&[0; READ]).await.is_ok() {} });
    assert!(futures_util::poll!(&mut write).is_pending());
    flow.cut(Cut::Hub);
    write.await;
    assert!(begin.elapsed() < UNREAD / 2, "{:?}", begin.elapsed());
}
