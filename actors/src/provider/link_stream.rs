//! Sends a streamed reply as SSE events over the link (SPEC.md section 4.1).

use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, LocalBoxFuture, select};
use tokio::sync::mpsc;
use wire::result::DONE;
use wire::sse::{write_data, write_event};

use super::backend_call::{BackendCall, NextChunk};
use super::job::{TaskEnding, UPLINK_BROKEN};
use crate::uplink::Outcome;

/// Number of writes in the channel to the link: one is sent while the next one is filled.
pub(super) const STREAM_DEPTH: usize = 2;
/// Most bytes of one write. A larger write takes longer to fill and is not faster: a token has about 200 bytes.
const MAX_WRITE: usize = 32 << 10;

/// Feeds `first` and the rest of `reply` to `sending`, the future that reads the other end of `sender`. Also returns the
/// number of chunks.
pub(super) async fn send_events(
    sender: mpsc::Sender<Bytes>,
    sending: LocalBoxFuture<'_, Outcome>,
    first: NextChunk,
    reply: &BackendCall,
) -> (TaskEnding, u64) {
    let mut chunks = 0;
    let feed = async {
        let mut next = first;
        loop {
            let mut write = BytesMut::with_capacity(1024);
            let mut ended;
            loop {
                ended = !encode(&mut write, next, &mut chunks);
                if ended || write.len() >= MAX_WRITE {
                    break;
                }
                match reply.ready_chunk() {
                    Poll::Ready(chunk) => next = chunk,
                    // `next_chunk` below registers the waker.
                    Poll::Pending => break,
                }
            }
            // The receiver is dropped when the hub decides before the end of the answer.
            if sender.send(write.freeze()).await.is_err() || ended {
                break;
            }
            next = reply.next_chunk().await;
        }
        drop(sender);
    };
    let outcome = match select(pin!(feed), sending).await {
        Either::Left(((), sending)) => sending.await,
        Either::Right((outcome, _)) => outcome,
    };
    let ending = match outcome {
        Outcome::Taken | Outcome::Gone => TaskEnding::Delivered,
        Outcome::Refused { status } => {
            TaskEnding::error(format!("the hub refused the answer (HTTP {status})"))
        }
        Outcome::Failed { .. } => TaskEnding::error(UPLINK_BROKEN),
    };
    (ending, chunks)
}

/// Appends a chunk as an SSE event, and returns whether more may follow.
fn encode(write: &mut BytesMut, chunk: NextChunk, chunks: &mut u64) -> bool {
    match chunk {
        Some(Ok(data)) => {
            *chunks += 1;
            write_data(write, &data);
            true
        }
        Some(Err(error)) => {
            let data = serde_json::json!({ "error": error.to_string() }).to_string();
            // Fails only for a name with a line break.
            let _ = write_event(write, Some("error"), None, &data);
            false
        }
        None => {
            write_data(write, DONE);
            false
        }
    }
}
