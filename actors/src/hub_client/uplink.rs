//! The `Uplink` of the hub client: posts and uploads results.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

use super::{HubClient, HubError, HubErrorKind};
use crate::failpoint;
use crate::uplink::{Cut, Posted, Uplink};

impl Uplink for HubClient {
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted> {
        let (hub, task) = (self.clone(), task.clone());
        async move {
            failpoint::reach("before result");
            let result = hub.post_result_now(&task, body).await;
            failpoint::reach("after result");
            posted(result)
        }
        .boxed_local()
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

fn posted(result: Result<(), HubError>) -> Posted {
    let Err(error) = result else { return Posted::Taken };
    match (error.kind(), &error) {
        (HubErrorKind::Gone | HubErrorKind::Conflict, _) => Posted::Gone,
        (HubErrorKind::Refused, HubError::Status { status, .. }) => Posted::Refused { status: *status },
        _ => Posted::Failed { retry_after: error.retry_after(), nothing_taken: error.nothing_taken() },
    }
}
