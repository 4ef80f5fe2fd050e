//! The [`Uplink`] of the [`HubClient`]: sends results and streams over the link, or posts results and chunks.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

use super::{HubClient, HubError, HubErrorKind};
use crate::failpoint;
use crate::uplink::{Outcome, Uplink};

impl Uplink for HubClient {
    fn send_result<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Outcome> {
        async move {
            failpoint::reach("before result");
            let link = self.links.of(task.as_str());
            let outcome = if link.is_active() {
                link.send_result(task, body).await
            } else {
                self.post_body(task, body).await
            };
            failpoint::reach("after result");
            outcome
        }
        .boxed_local()
    }

    fn post_chunk<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Outcome> {
        async move {
            failpoint::reach("before result");
            let outcome = self.post_body(task, body).await;
            failpoint::reach("after result");
            outcome
        }
        .boxed_local()
    }

    fn send_stream<'a>(
        &'a self,
        task: &'a TaskId,
        body: mpsc::Receiver<Bytes>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let link = self.links.of(task.as_str());
        link.is_active().then(|| async move { link.send_stream(task, body).await }.boxed_local())
    }
}

impl HubClient {
    async fn post_body(&self, task: &TaskId, body: Bytes) -> Outcome {
        let path = format!("_provider-task/{}/result", task.encoded());
        outcome_of(self.post(&self.results, "provider-task", &path, body).await.map(|_| ()))
    }
}

fn outcome_of(result: Result<(), HubError>) -> Outcome {
    let Err(error) = result else { return Outcome::Taken };
    match (error.kind(), &error) {
        (HubErrorKind::Gone | HubErrorKind::Conflict, _) => Outcome::Gone,
        (HubErrorKind::Refused, HubError::Status { status, .. }) => Outcome::Refused { status: *status },
        _ => Outcome::Failed { retry_after: error.retry_after(), nothing_taken: error.nothing_taken() },
    }
}
