//! Backends that send as fast as they are read.

use testkit::peer::Peer;
use tokio::time::Instant;

use super::*;

/// A server that answers a request that streams with `head` and then `flood` for as long as it is read, at most 10 s, and any
/// other one with a short answer.
fn flooding(head: &'static str, flood: String) -> Peer {
    Peer::on_thread(async move |mut connection| {
        while !connection.request().await?.text().contains("FLOOD") {
            connection.write("HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"choices\":[]}").await?;
        }
        let start = Instant::now();
        connection.write(head).await?;
        while start.elapsed() < Duration::from_secs(10) {
            connection.write(&flood).await?;
        }
        Ok(())
    })
}

/// A24, A27: whatever a backend sends without end, another call of the same thread is answered.
#[actix_rt::test]
async fn a_backend_that_sends_without_end_keeps_no_other_call_waiting() {
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let token = format!("data: {TOKEN}\n\n");
    for (streaming, head, flood) in [
        (false, "", "HTTP/1.1 102 Processing\r\n\r\n".repeat(2000)),
        (false, whole, "1\r\n \r\n".repeat(5000)),
        (true, SSE, "1\r\n\n\r\n".repeat(5000)),
        (true, SSE, chunked(&": xxxxxxxxx\n\n".repeat(5000))),
        (true, SSE, chunked(&token.repeat(500))),
    ] {
        let server = flooding(head, flood.clone());
        let backend = backend(&server.url(), Duration::from_secs(20));
        let mut request = request(streaming);
        request.body = Bytes::from_static(br#"{"messages":"FLOOD"}"#);
        let flooded = backend.infer(request);
        let flooded = tokio::task::spawn_local(async move {
            if let Ok(Reply::Stream(mut events)) = flooded.await {
                while events.next().await.is_some() {}
            }
        });
        for _ in 0..10 {
            let start = Instant::now();
            let answer = backend.infer(super::request(false)).await;
            assert!(matches!(answer, Ok(Reply::Whole { status: 200, .. })));
            assert!(
                start.elapsed() < Duration::from_secs(1),
                "{:?} behind {}",
                start.elapsed(),
                &flood[..20]
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        flooded.abort();
    }
}
