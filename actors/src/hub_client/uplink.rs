//! Results on their way to the hub.

use std::pin::Pin;
use std::task::{Context, Poll};

use awc::http::StatusCode;
use awc::http::header::ACCEPT;
use bytes::Bytes;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::{FutureExt, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use wire::TaskId;

use super::{CALL_TIMEOUT, HubClient, HubError, HubErrorKind, read};
use crate::uplink::{Cut, Posted, Uplink};

impl Uplink for HubClient {
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted> {
        let (hub, task) = (self.clone(), task.clone());
        async move { posted(hub.post_result_now(&task, body).await) }.boxed_local()
    }

    fn upload(
        &self,
        task: &TaskId,
        body: mpsc::Receiver<Result<Bytes, Cut>>,
    ) -> LocalBoxFuture<'static, Posted> {
        let (hub, task) = (self.clone(), task.clone());
        async move { posted(hub.upload_now(&task, body).await) }.boxed_local()
    }
}

impl HubClient {
    async fn upload_now(
        &self,
        task: &TaskId,
        body: mpsc::Receiver<Result<Bytes, Cut>>,
    ) -> Result<(), HubError> {
        const CALL: &str = "provider-task";
        let url = self.inner.address.route(&format!("_provider-task/{}/stream", task.encoded()));
        let (sent, ended) = oneshot::channel();
        let sending = self
            .request(self.inner.results.post(url))
            .insert_header((ACCEPT, "application/json"))
            .content_type("text/event-stream")
            .send_stream(Body { pieces: body, sent: Some(sent) });
        // The answer is as long in coming as the caller reads; only after the last byte has the hub a deadline.
        let late = async {
            let _ = ended.await;
            tokio::time::sleep(CALL_TIMEOUT).await;
        };
        let response = match select(Box::pin(sending), Box::pin(late)).await {
            Either::Left((response, _)) => response.map_err(|error| HubError::unsent(CALL, &error))?,
            Either::Right(((), _)) => return Err(HubError::silent(CALL)),
        };
        let answer = timeout(CALL_TIMEOUT, read(CALL, response))
            .await
            .unwrap_or_else(|_| Err(HubError::silent(CALL)))?;
        match answer.status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED => {
                // The body is spent: what comes next has the new token.
                self.inner.token.read_again().await;
                Err(self.refused(CALL, &answer))
            }
            _ => Err(self.refused(CALL, &answer)),
        }
    }
}

fn posted(result: Result<(), HubError>) -> Posted {
    let Err(error) = result else { return Posted::Taken };
    match (error.kind(), &error) {
        (HubErrorKind::Gone | HubErrorKind::Conflict, _) => Posted::Gone,
        (HubErrorKind::Refused, HubError::Status { status, .. }) => Posted::Refused { status: *status },
        _ => Posted::Failed { retry_after: error.retry_after(), nothing_taken: error.nothing_taken() },
    }
}

/// The pieces as a request body. Tells when the last one was taken.
struct Body {
    pieces: mpsc::Receiver<Result<Bytes, Cut>>,
    sent: Option<oneshot::Sender<()>>,
}

impl Stream for Body {
    type Item = Result<Bytes, Cut>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.pieces.poll_recv(cx);
        if matches!(next, Poll::Ready(None)) {
            // Who waits for the end hears of it when the sender is dropped.
            self.sent = None;
        }
        next
    }
}
