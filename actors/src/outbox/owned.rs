//! The uplink of running tasks, which drops the chunks of disowned ones.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

use super::Inner;
use crate::uplink::{Cut, Posted, Uplink};

impl Uplink for Inner {
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted> {
        if self.ledger.borrow().is_disowned(task) {
            return Box::pin(async { Posted::Gone });
        }
        self.uplink.post_result(task, body)
    }

    fn upload(
        &self,
        task: &TaskId,
        pieces: mpsc::Receiver<Result<Bytes, Cut>>,
    ) -> LocalBoxFuture<'static, Posted> {
        if self.ledger.borrow().is_disowned(task) {
            return Box::pin(async { Posted::Gone });
        }
        self.uplink.upload(task, pieces)
    }
}
