//! Posts each result until the hub accepts it, within the limit of waiting results.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use wire::TaskId;
use wire::result::TaskResult;

use super::{Inner, RetryPolicy, TOO_MANY};
use crate::news::hub_news;
use crate::supervise::catch_panic;
use crate::uplink::Outcome;

impl Inner {
    pub(super) fn finish(self: &Rc<Self>, id: TaskId, result: &TaskResult) {
        if self.ledger.borrow().is_disowned(&id) {
            return self.end(&id, None);
        }
        self.deliver(id, result.to_json().into(), true);
    }

    pub(super) fn end(&self, id: &TaskId, result: Option<Bytes>) {
        self.ledger.borrow_mut().end(id, result, Instant::now());
        self.changed.notify_waiters();
    }

    /// Posts `body` until the hub accepts it or the [`RetryPolicy`] ends. `ends_task` is false for a result that is sent again.
    pub(super) fn deliver(self: &Rc<Self>, id: TaskId, body: Bytes, ends_task: bool) {
        let is_stale = Rc::<Cell<bool>>::default();
        if !ends_task {
            let mut repeated = self.repeated.borrow_mut();
            if repeated.contains_key(&id) {
                return log::debug!("task {id} came again while its result is on its way");
            }
            repeated.insert(id.clone(), Rc::clone(&is_stale));
        }
        let inner = Rc::clone(self);
        let body = if inner.waiting_bytes.get().saturating_add(body.len()) <= inner.max_waiting_bytes {
            body
        } else {
            hub_news!(
                warn,
                "results dropped",
                "task {id}: its result is dropped, {} MiB of others wait for the hub",
                inner.max_waiting_bytes >> 20
            );
            TaskResult::error(TOO_MANY).to_json().into()
        };
        inner.waiting_bytes.set(inner.waiting_bytes.get() + body.len());
        actix_rt::spawn(async move {
            let may_go = || !(is_stale.get() || ends_task && inner.ledger.borrow().is_disowned(&id));
            let posting = catch_panic(Arc::clone(&inner.name), inner.post(&id, body.clone(), may_go));
            let panicked = posting.await.is_err();
            inner.waiting_bytes.set(inner.waiting_bytes.get().saturating_sub(body.len()));
            if panicked {
                hub_news!(
                    error,
                    "results lost by a panic",
                    "task {id}: its result is lost, the way to the hub panicked"
                );
            }
            // The end mark of a stream means nothing without its chunks.
            let is_end_mark = body.starts_with(br#"{"chunk""#);
            if ends_task {
                inner.end(&id, Some(body).filter(|_| !is_end_mark));
            } else {
                let mut repeated = inner.repeated.borrow_mut();
                if repeated.get(&id).is_some_and(|own| Rc::ptr_eq(own, &is_stale)) {
                    repeated.remove(&id);
                }
                inner.changed.notify_waiters();
            }
        });
    }

    /// Sends `body` while `may_go`.
    async fn post(&self, id: &TaskId, mut body: Bytes, may_go: impl Fn() -> bool) {
        let mut retries = RetryPolicy::new(Instant::now());
        let mut is_substitute = false;
        loop {
            let outcome = {
                // The semaphore is never closed, so this always gets a permit.
                let _permit = self.posting.acquire().await;
                if !may_go() {
                    return log::debug!(
                        "task {id}: its id belongs to another task now, the result is dropped"
                    );
                }
                self.uplink.send_result(id, body.clone()).await
            };
            match outcome {
                Outcome::Taken => return,
                Outcome::Gone => return log::debug!("task {id}: the caller has left"),
                Outcome::Refused { status } if is_substitute => {
                    hub_news!(
                        warn,
                        "errors refused",
                        "task {id}: the hub refused its error too (HTTP {status})"
                    );
                    return;
                }
                Outcome::Refused { status } => {
                    hub_news!(
                        warn,
                        "results refused",
                        "task {id}: the hub refused its result (HTTP {status})"
                    );
                    let error = format!("the hub refused the result (HTTP {status})");
                    body = TaskResult::error(error).to_json().into();
                    is_substitute = true;
                }
                Outcome::Failed { retry_after, .. } => {
                    let Some(pause) = retries.after_failure(retry_after, Instant::now()) else {
                        hub_news!(
                            warn,
                            "results lost",
                            "task {id}: its result is lost, the hub did not take it in time"
                        );
                        return;
                    };
                    sleep(pause).await;
                }
            }
        }
    }
}
