//! Uploads of streamed answers.

use tokio::sync::mpsc;

use super::*;
use crate::uplink::Cut;

#[actix::test]
async fn an_upload_has_its_pieces_and_its_end() {
    let hub = TestHub::start().await;
    let (pieces, body) = mpsc::channel(1);
    let uploading = client(&hub).upload(&id("t"), body);
    let feeding = async {
        for piece in ["data: {}\n\n", "data: [DONE]\n\n"] {
            pieces.send(Ok(Bytes::from(piece))).await.unwrap();
        }
        drop(pieces);
    };
    let (posted, ()) = futures_util::join!(uploading, feeding);
    assert_eq!(posted, Posted::Taken);
    let call = hub.nth("_provider-task/t/stream", 1).await;
    assert_eq!(call.body, "data: {}\n\ndata: [DONE]\n\n");
    assert!(call.complete);
    assert_eq!(call.headers["content-type"], "text/event-stream");
    assert_eq!(call.headers["transfer-encoding"], "chunked");
}

/// P3, F34: it never looks like a whole one.
#[actix::test]
async fn a_cut_upload_reaches_the_hub_as_broken() {
    let hub = TestHub::start().await;
    let (pieces, body) = mpsc::channel(4);
    let uploading = client(&hub).upload(&id("t"), body);
    let cutting = async {
        pieces.send(Ok(Bytes::from_static(b"data: {}\n\n"))).await.unwrap();
        wait_until("the upload begins", || hub.heads() == 1).await;
        pieces.send(Err(Cut)).await.unwrap();
    };
    let (posted, ()) = futures_util::join!(uploading, cutting);
    assert!(matches!(posted, Posted::Failed { nothing_taken: false, .. }), "{posted:?}");
    let call = hub.nth("_provider-task/t/stream", 1).await;
    assert_eq!((call.body.as_str(), call.complete), ("data: {}\n\n", false));
}

#[actix::test]
async fn an_upload_of_an_ended_task_is_gone() {
    let hub = TestHub::start().await;
    hub.script("/stream", [Reply::status(410)]);
    let (pieces, body) = mpsc::channel::<Result<Bytes, Cut>>(1);
    drop(pieces);
    assert_eq!(client(&hub).upload(&id("t"), body).await, Posted::Gone);
}

#[actix::test]
async fn a_piece_is_sent_at_once_and_uploads_use_connections_again() {
    let hub = TestHub::start().await;
    let client = client(&hub);
    for n in 1..=20 {
        let (pieces, body) = mpsc::channel(1);
        let uploading = client.upload(&id("t"), body);
        let feeding = async {
            pieces.send(Ok(Bytes::from_static(b": x\n\n"))).await.unwrap();
            wait_until("the hub has the piece before the end of the upload", || hub.heads() == n).await;
            drop(pieces);
        };
        let (posted, ()) = futures_util::join!(uploading, feeding);
        assert_eq!(posted, Posted::Taken);
    }
    assert_eq!(hub.connections(), 1);
}

#[actix::test]
async fn an_upload_that_is_refused_early_ends_early() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let credentials =
        Credentials::new(format!("http://{}", listener.local_addr().unwrap()), Secret::new("t"));
    let refusing = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 410 Gone\r\ncontent-length: 2\r\n\r\n{}";
        tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
        socket
    };
    let (pieces, body) = mpsc::channel(1);
    let client = HubClient::new(&credentials).unwrap();
    let (posted, _socket) = futures_util::join!(client.upload(&id("t"), body), refusing);
    assert_eq!(posted, Posted::Gone);
    assert!(pieces.is_closed(), "the sender of the pieces is told");
}
