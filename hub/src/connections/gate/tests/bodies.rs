//! `Gate`: request bodies of known and of unknown length.

use actix_http::Payload;
use actix_web::http::header::CONTENT_LENGTH;
use futures_util::{StreamExt, stream};

use super::*;

/// A request whose handler has read none of its body of `length` bytes.
fn body(length: usize) -> Request {
    let mut request: Request =
        Request::with_payload(Payload::Stream { payload: Box::pin(stream::pending()) });
    request.head_mut().headers_mut().insert(CONTENT_LENGTH, length.into());
    request
}

#[actix_rt::test]
async fn a_body_of_known_length_passes_and_the_next_request_does_not() {
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    let head = "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n";
    caller.write_all(format!("{head}123456789{head}").as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, head);
    let connection = gate.connection().clone();
    let open = connection.begin(&mut body(9));
    assert_eq!(next(&mut gate).await, "123456789");
    assert!(is_shut(&mut gate));
    drop(open);
    assert_eq!(next(&mut gate).await, head);
}

/// A24, P7: the gate reads at most `READ_AHEAD` bytes of a body ahead of its handler.
#[actix_rt::test]
async fn a_long_body_is_read_as_fast_as_its_handler_reads() {
    let table = table();
    let next_head = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for length in [1, READ_AHEAD - 1, READ_AHEAD, READ_AHEAD + 1, 2 * READ_AHEAD, 5 * READ_AHEAD + 7] {
        let (mut gate, mut caller) = gate(&table).await;
        let head = format!("POST / HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
        caller.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(next(&mut gate).await, head);
        let connection = gate.connection().clone();
        let mut request = body(length);
        let open = connection.begin(&mut request);
        let mut payload = request.take_payload();
        // The socket buffers hold the body and the next request.
        caller.write_all(&vec![b'x'; length]).await.unwrap();
        caller.write_all(next_head.as_bytes()).await.unwrap();
        let mut passed = 0;
        while passed < length {
            let mut ahead = 0;
            while ahead < READ_AHEAD.min(length - passed) {
                ahead += next(&mut gate).await.len();
            }
            assert!(ahead <= READ_AHEAD && is_shut(&mut gate), "{length}: {ahead} bytes");
            passed += ahead;
            // The handler reads all bytes and waits for more.
            assert!(payload.next().now_or_never().is_none());
        }
        assert!(passed == length && is_shut(&mut gate), "{length}: {passed} bytes");
        drop(open);
        assert_eq!(next(&mut gate).await, next_head, "{length}");
    }
}

/// A27: the gate notices that a client disconnects in the middle of a body that its handler does not read.
#[actix_rt::test]
async fn a_disconnect_in_the_middle_of_an_unread_body_is_noticed() {
    let table = table();
    let (mut gate, mut caller) = gate(&table).await;
    let head = "POST / HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(next(&mut gate).await, head);
    let _open = gate.connection().clone().begin(&mut body(1_000_000));
    caller.write_all(&vec![b'x'; 40_000]).await.unwrap();
    let mut passed = 0;
    while passed < READ_AHEAD {
        passed += next(&mut gate).await.len();
    }
    assert!(is_shut(&mut gate));
    drop(caller);
    let mut bytes = vec![0; READ];
    let left =
        timeout(Duration::from_secs(1), gate.read(&mut bytes)).await.expect("the disconnect is noticed");
    assert_eq!(left.unwrap_or(0), 0);
}

/// A24: requests that arrive together with the end of a chunked body are held until the response is written.
#[actix_rt::test]
async fn requests_behind_the_end_of_a_chunked_body_are_held() {
    let table = table();
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let next_head = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for size in [1, 100, READ_AHEAD, 3 * READ_AHEAD + 1] {
        let (mut gate, mut caller) = gate(&table).await;
        caller.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(next(&mut gate).await, head);
        let connection = gate.connection().clone();
        let mut request: Request =
            Request::with_payload(Payload::Stream { payload: Box::pin(stream::pending()) });
        let open = connection.begin(&mut request);
        let mut payload = request.take_payload();
        assert!(payload.next().now_or_never().is_none());
        let body = format!("{size:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(size));
        caller.write_all(format!("{body}{}", next_head.repeat(16)).as_bytes()).await.unwrap();
        let mut passed = String::new();
        while passed.len() < body.len() {
            passed += &next(&mut gate).await;
        }
        assert!(passed == body && is_shut(&mut gate), "{size}: {} bytes", passed.len());
        drop(open);
        assert_eq!(next(&mut gate).await, next_head, "{size}");
    }
}
