//! Uploads of streamed answers.

use testkit::connection::answer;
use testkit::peer::Listener;
use tokio::sync::mpsc;

use super::*;

#[actix::test]
async fn an_upload_sends_all_pieces_and_a_proper_end() {
    let hub = ClassicHub::start();
    let (pieces, body) = mpsc::channel(1);
    let (client, task) = (client(&hub), id("t"));
    let uploading = client.upload(&task, body);
    let feeding = async {
        for piece in ["data: {}\n\n", "data: [DONE]\n\n"] {
            pieces.send(Bytes::from(piece)).await.unwrap();
        }
        drop(pieces);
    };
    let (posted, ()) = futures_util::join!(uploading, feeding);
    assert_eq!(posted, Posted::Taken);
    let call = hub.request("_provider-task/t/stream", 1).await;
    assert_eq!(call.text(), "data: {}\n\ndata: [DONE]\n\n");
    assert!(call.is_whole);
    assert_eq!(call.header("content-type"), Some("text/event-stream"));
    assert_eq!(call.header("transfer-encoding"), Some("chunked"));
}

/// P3, F34: the hub must not take a partial upload for a whole one.
#[actix::test]
async fn a_dropped_upload_breaks_its_connection() {
    let hub = ClassicHub::start();
    let (pieces, body) = mpsc::channel(4);
    let client = client(&hub);
    let uploading = actix_rt::spawn(async move { client.upload(&id("t"), body).await });
    pieces.send(Bytes::from_static(b"data: {}\n\n")).await.unwrap();
    wait_until("the upload begins", || hub.heads() == 1).await;
    uploading.abort();
    let call = hub.request("_provider-task/t/stream", 1).await;
    assert_eq!((call.text().as_str(), call.is_whole), ("data: {}\n\n", false));
}

#[actix::test]
async fn an_upload_for_an_ended_task_is_reported_as_gone() {
    let hub = ClassicHub::start();
    hub.script("/stream", [Reply::status(410)]);
    let (pieces, body) = mpsc::channel(1);
    drop(pieces);
    assert_eq!(client(&hub).upload(&id("t"), body).await, Posted::Gone);
}

#[actix::test]
async fn pieces_are_sent_at_once_and_uploads_reuse_connections() {
    let hub = ClassicHub::start();
    let client = client(&hub);
    for n in 1..=20 {
        let (pieces, body) = mpsc::channel(1);
        let task = id("t");
        let uploading = client.upload(&task, body);
        let feeding = async {
            pieces.send(Bytes::from_static(b": x\n\n")).await.unwrap();
            wait_until("the hub has the piece before the end of the upload", || hub.heads() == n).await;
            drop(pieces);
        };
        let (posted, ()) = futures_util::join!(uploading, feeding);
        assert_eq!(posted, Posted::Taken);
    }
    assert_eq!(hub.connections(), 1);
}

#[actix::test]
async fn an_upload_ends_when_the_hub_refuses_it() {
    let listener = Listener::bind().await;
    let credentials = Credentials::new(listener.url(), Secret::new("t"));
    let refusing = async {
        let mut connection = listener.accept().await;
        connection.write(answer(410, "", "{}")).await.unwrap();
        connection
    };
    let (pieces, body) = mpsc::channel(1);
    let (client, task) = (HubClient::new(&credentials).unwrap(), id("t"));
    let (posted, _connection) = futures_util::join!(client.upload(&task, body), refusing);
    assert_eq!(posted, Posted::Gone);
    assert!(pieces.is_closed(), "the sender of the pieces sees the end");
}
