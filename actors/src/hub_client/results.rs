//! The [`Uplink`] of the [`HubClient`]: posts results and uploads streams.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

use super::{HubClient, HubError, HubErrorKind};
use crate::failpoint;
use crate::uplink::{Posted, Uplink};

impl Uplink for HubClient {
    fn post_result<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Posted> {
        async move {
            failpoint::reach("before result");
            if self.link.is_active() {
                let posted = self.link.send_result(task, body).await;
                failpoint::reach("after result");
                return posted;
            }
            let path = format!("_provider-task/{}/result", task.encoded());
            let result = self.post(&self.results, "provider-task", &path, body).await;
            failpoint::reach("after result");
            posted(result.map(|_| ()))
        }
        .boxed_local()
    }

    fn upload<'a>(&'a self, task: &'a TaskId, body: mpsc::Receiver<Bytes>) -> LocalBoxFuture<'a, Posted> {
        async move {
            if self.link.is_active() {
                return self.link.send_stream(task, body).await;
            }
            posted(self.send_upload(task, body).await)
        }
        .boxed_local()
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
