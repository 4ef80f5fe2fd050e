//! `Gate` over real sockets.

mod bodies;

use actix_http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::write::UNREAD_TIMEOUT;
use super::*;
use crate::connections::limits::ConnectionLimits;
use crate::connections::priority::{PriorityGuard, with_polled};
use crate::connections::table::ConnectionTable;
use crate::telemetry::Metrics;

/// Deadline of every wait in a test.
const PATIENCE: Duration = Duration::from_secs(20);
/// The server's read buffer, in bytes.
const READ: usize = 8 << 10;

fn table() -> Rc<ConnectionTable> {
    ConnectionTable::new(ConnectionLimits::of_test(9), Metrics::new().unwrap().of_machine().unwrap())
}

/// A gate and the client's end of its connection.
async fn gate(table: &Rc<ConnectionTable>) -> (Gate, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, accepted) = futures_util::join!(connecting, listener.accept());
    let permit = table.admit([10, 0, 0, 1].into(), false);
    (Gate::new(MaybeTlsStream::Plain(accepted.unwrap().0), permit), client.unwrap())
}

/// Reads the next bytes that the gate passes to the server; empty at the end.
async fn next(gate: &mut Gate) -> String {
    let mut bytes = vec![0; READ];
    let read = timeout(PATIENCE, gate.read(&mut bytes)).await.expect("the gate passes bytes").unwrap();
    bytes.truncate(read);
    String::from_utf8(bytes).unwrap()
}

/// Whether the gate passes no bytes, however often it is polled.
fn is_shut(gate: &mut Gate) -> bool {
    let mut bytes = vec![0; READ];
    (0..9).all(|_| gate.read(&mut bytes).now_or_never().is_none())
}

/// If incomplete heads have exhausted the budget, another large head gets 503, and a small head is still accepted.
#[actix_rt::test]
async fn a_large_head_beyond_the_budget_gets_503() {
    let table = table();
    let (mut plain, mut caller) = gate(&table).await;
    let part = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(9 << 10));
    caller.write_all(part.as_bytes()).await.unwrap();
    let mut received = 0;
    while received < part.len() {
        received += next(&mut plain).await.len();
    }
    drop(plain);
    assert_eq!(table.heads.usage([10, 0, 0, 1].into()).0, 0);
    let mut full = Vec::new();
    for address in 0_u16.. {
        let [high, low] = address.to_be_bytes();
        full.push(table.admit([10, 0, high, low].into(), false));
        if !full[full.len() - 1].connection.head.grow(16 << 10) {
            break;
        }
    }
    for (size, is_refused) in [(4 << 10, false), (9 << 10, true)] {
        let (mut gate, mut caller) = gate(&table).await;
        let head = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(size));
        caller.write_all(head.as_bytes()).await.unwrap();
        let mut received = 0;
        while received < head.len() {
            let part = next(&mut gate).await;
            received += part.len();
            if part.is_empty() {
                break;
            }
        }
        assert_eq!(received < head.len(), is_refused, "{received} of {size}");
        drop(gate);
        let mut response = String::new();
        let _ = timeout(PATIENCE, caller.read_to_string(&mut response))
            .await
            .expect("the hub closes the connection");
        assert_eq!(
            response.starts_with("HTTP/1.1 503 ") && response.contains("too many large heads"),
            is_refused,
            "{response}"
        );
    }
    drop(full);
    assert_eq!(table.heads.usage([10, 0, 0, 1].into()).0, 0);
}

/// The next request passes when the last response is written; until then the gate holds a bounded number of bytes.
#[actix_rt::test]
async fn the_next_request_waits_for_the_last_response() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    // The socket buffers hold this much.
    let all = HEAD.repeat((56 << 10) / HEAD.len());
    caller.write_all(all.as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, HEAD);
    let connection = gate.connection().clone();
    let open = connection.begin(&mut Request::new());
    assert!(is_shut(&mut gate));
    assert!(gate.held.len() < MAX_HELD + READ, "{} bytes are held", gate.held.len());
    connection.unwritten.set(true);
    drop(open);
    assert!(is_shut(&mut gate), "a request passes before the response is written");
    connection.unwritten.set(false);
    assert_eq!(next(&mut gate).await, HEAD);
    assert!(is_shut(&mut gate) || gate.head_passed, "two requests pass at once");
}

/// A27: the gate notices that a client closes or resets its connection during a call, behind any number of unread bytes.
#[actix_rt::test]
async fn a_disconnect_is_noticed_behind_unread_bytes() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    // The socket buffers hold all of these bytes.
    for (behind, is_reset) in [(0, false), (MAX_HELD, false), (40_000, false), (40_000, true)] {
        let (mut gate, mut caller) = gate(&table).await;
        caller.write_all(HEAD.as_bytes()).await.unwrap();
        assert_eq!(next(&mut gate).await, HEAD);
        let _open = gate.connection().clone().begin(&mut Request::new());
        caller.write_all(&vec![b'G'; behind]).await.unwrap();
        let mut bytes = vec![0; READ];
        let waits = timeout(2 * POLL_INTERVAL, gate.read(&mut bytes)).await;
        assert!(waits.is_err(), "{behind}");
        if is_reset {
            caller.set_zero_linger().unwrap();
        }
        drop(caller);
        let left = timeout(Duration::from_secs(1), gate.read(&mut bytes)).await;
        let left = left.unwrap_or_else(|_| panic!("not noticed behind {behind} bytes"));
        assert!(left.as_ref().map_or(is_reset, |read| *read == 0), "{left:?}");
        assert!(gate.held.len() <= MAX_HELD + READ);
    }
}

/// A24: while a connection has priority, bytes behind its request stay in the socket; its disconnect is noticed later.
#[actix_rt::test]
async fn a_connection_with_priority_reads_only_once_behind_its_request() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    caller.write_all(HEAD.as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, HEAD);
    let connection = gate.connection().clone();
    let _open = connection.begin(&mut Request::new());
    let guard = with_polled(&mut Some(connection.slot.priority().clone()), PriorityGuard::new);
    let mut bytes = vec![0; READ];
    for (sent, held) in [(1, 1), (99, 1)] {
        caller.write_all(&vec![b'G'; sent]).await.unwrap();
        let waits = timeout(2 * POLL_INTERVAL, gate.read(&mut bytes)).await;
        assert!(waits.is_err());
        assert_eq!(gate.held.len(), held);
    }
    drop(guard);
    assert!(is_shut(&mut gate));
    assert_eq!(gate.held.len(), 100, "not all bytes are read without priority");
    drop(caller);
    let left =
        timeout(Duration::from_secs(1), gate.read(&mut bytes)).await.expect("the disconnect is noticed");
    assert_eq!(left.unwrap(), 0);
}

/// A25: a connection that the hub has to close closes after the response under way, however many requests are pipelined;
/// a new connection's first request is still served.
#[actix_rt::test]
async fn a_closing_connection_serves_no_pipelined_request() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    caller.write_all(HEAD.repeat(900).as_bytes()).await.unwrap();
    let connection = gate.connection().clone();
    for _ in 0..3 {
        assert_eq!(next(&mut gate).await, HEAD);
        let open = connection.begin(&mut Request::new());
        assert!(is_shut(&mut gate));
        drop(open);
    }
    connection.close(CloseReason::Hub);
    assert_eq!(next(&mut gate).await, "");
    drop(gate);
    let mut status = [0; 12];
    caller.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 503");
    let (mut gate, mut caller) = self::gate(&table).await;
    caller.write_all(HEAD.as_bytes()).await.unwrap();
    gate.connection().close(CloseReason::Hub);
    assert_eq!(next(&mut gate).await, HEAD);
}

/// A24: bytes behind a request are buffered up to the kernel's limit, and only a few of them by the hub.
#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn unread_input_is_bounded_by_the_kernels_limit() {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
    let most: usize = limits.split_whitespace().last().unwrap().parse().unwrap();
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    socket2::SockRef::from(&caller).set_send_buffer_size(64 << 10).unwrap();
    caller.write_all(HEAD.as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, HEAD);
    let _open = gate.connection().clone().begin(&mut Request::new());
    let (block, mut taken, mut bytes) = (vec![b'G'; 64 << 10], 0, vec![0; READ]);
    let write = async {
        // The buffers are full when no byte is accepted for a while.
        while let Ok(size) = timeout(POLL_INTERVAL, caller.write(&block)).await {
            taken += size.unwrap();
            assert!(taken <= most + (512 << 10), "{taken} bytes");
        }
    };
    tokio::select! {
        read = gate.read(&mut bytes) => panic!("{read:?} passes"),
        () = write => (),
    }
    assert!(gate.held.len() <= MAX_HELD + READ, "{} bytes are held", gate.held.len());
}

#[actix_rt::test]
async fn a_connection_that_does_not_read_closes_at_once() {
    let table = table();
    let (mut gate, _caller) = gate(&table).await;
    let connection = gate.connection().clone();
    tokio::time::pause();
    let begin = tokio::time::Instant::now();
    let mut write = Box::pin(async move { while gate.write_all(&[0; READ]).await.is_ok() {} });
    assert!(futures_util::poll!(&mut write).is_pending());
    connection.close(CloseReason::Hub);
    write.await;
    assert!(begin.elapsed() < UNREAD_TIMEOUT / 2, "{:?}", begin.elapsed());
}
