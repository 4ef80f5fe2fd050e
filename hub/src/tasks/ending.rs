//! How tasks end: by an event, by their caller, or deleted after their end.
//!
//! The change is given to the store while the task table is locked, so the store gets the endings of one task in order and
//! keeps the first. No caller or publisher learns of an end before the store has written it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::open_task::OpenTask;
use super::state::{Effect, Event};
use crate::dispatch::CommitNotifier;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::{Caller, DurableTask, TaskStatus};
use crate::news::news;
use crate::store::{Change, StoreError};
use crate::telemetry::{CALLER_LEFT, brief};

/// Time between two attempts to write an end while the store cannot be written, unless the publisher asks before.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// How a task ended: its answer or its error.
#[derive(Default)]
pub(super) struct Ending {
    /// HTTP status and body of the backend's answer.
    pub(super) result: Option<(u16, String)>,
    pub(super) error: Option<ApiError>,
    /// Notifies the publisher when the end is written.
    pub(super) notifier: Option<CommitNotifier>,
}

impl From<ApiError> for Ending {
    fn from(error: ApiError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// Ends a task by `event`, unless it has ended: writes its record and erases its request. The task is shown in its last
/// state until that is written.
pub(super) fn end(hub: &Arc<Hub>, number: u64, event: Event, ending: Ending) {
    let Ending { result, error, notifier } = ending;
    let written = hub.tasks.step(number, event, |open, effect| {
        let Effect::Ended { state, .. } = effect else { return None };
        let status = match state {
            TaskStatus::Cancelled => CALLER_LEFT,
            TaskStatus::Completed => result.as_ref().map_or(200, |(status, _)| *status),
            _ => error.as_ref().map_or(502, |error| error.status().as_u16()),
        };
        let mut tokens = None;
        if let Some(call) = open.call.take() {
            tokens = call.end(status, error.as_ref());
        } else if let Some(error) = &error {
            // A task that was never sent has no `ActiveCall`, which would log this.
            let (user, row, code) = (&open.task.owner, &open.task.target, error.kind.code());
            let (ms, id) = (crate::clock::now().millis_since(open.task.created_at), &open.task.id);
            news!(
                info,
                code,
                user,
                [user = user, llm = row, status = status, code = code, ms = ms, id = id],
                "call failed: user={user} row={row} publisher=- status={status} code={code} ms={ms} request=- id={id}",
            );
        }
        if let Some(limit) = error.as_ref().and_then(|error| error.limit) {
            hub.watch.machine.refused_by(limit);
        }
        let record = DurableTask {
            result,
            error: error.as_ref().map(|error| brief(&error.message)),
            code: error.as_ref().map(|error| error.kind.code().to_owned()),
            tokens,
            ..ended_record(&open.task, state)
        };
        let id = record.id.clone();
        Some((id, hub.store.write_behind(changes(hub, record))))
    });
    let Some(Some((id, written))) = written else { return };
    let hub = hub.clone();
    // Spawned, because the caller may be the runner that is aborted.
    tokio::spawn(async move {
        let mut written = written.await;
        while written.is_err() {
            if let Some(notifier) = &notifier {
                notifier.failed();
                let _ = timeout(RETRY_INTERVAL, notifier.retry_requested()).await;
            } else {
                sleep(RETRY_INTERVAL).await;
            }
            written = hub.store.written(&id).await;
        }
        hub.tasks.close(number);
        if let Some(notifier) = notifier {
            notifier.commit();
        }
    });
}

impl Hub {
    /// Cancels a task of `caller`. It is cancelled once that is written, and goes on if it cannot be written. `None` if the
    /// task is not open, has ended, or may not be seen by `caller`.
    pub(crate) fn cancel_task(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
    ) -> Option<JoinHandle<Result<(), StoreError>>> {
        let number = self.tasks.number(caller, id)?;
        let write = |open: &OpenTask| {
            let tokens = open.call.as_ref().and_then(|call| call.tokens());
            let record = DurableTask { tokens, ..ended_record(&open.task, TaskStatus::Cancelled) };
            self.store.write(changes(self, record))
        };
        let written = self.tasks.if_not_ended(number, write)?;
        let hub = self.clone();
        // Spawned, because the caller may leave.
        Some(tokio::spawn(async move {
            written.await?;
            // No effect if the task ended in another way meanwhile; the store kept the cancellation, which came first.
            hub.tasks.step(number, Event::Cancel, |open, _| {
                if let Some(call) = open.call.take() {
                    call.end(CALLER_LEFT, None);
                }
            });
            hub.tasks.close(number);
            Ok(())
        }))
    }

    /// Deletes a task that has ended and whose end may not be written yet. `None` if it is not open.
    pub(crate) fn delete_ended(
        self: &Arc<Self>,
        caller: &Caller,
        id: &str,
    ) -> Option<JoinHandle<Result<(), StoreError>>> {
        let number = self.tasks.number(caller, id)?;
        let written = self.store.write(vec![Change::DeleteTask(id.to_owned())]);
        let hub = self.clone();
        Some(tokio::spawn(async move {
            written.await?;
            hub.tasks.close(number);
            Ok(())
        }))
    }
}

/// The record of a task that ends now.
fn ended_record(task: &DurableTask, state: TaskStatus) -> DurableTask {
    DurableTask { state, request: None, updated_at: crate::clock::now(), ..task.clone() }
}

/// The changes of an end: the record, and the deletion of the owner's oldest results if there is no space for a new one.
fn changes(hub: &Hub, record: DurableTask) -> Vec<Change> {
    let enforce_quota =
        Change::EnforceTaskQuota { owner: record.owner.clone(), max_bytes: hub.options.limits.disk };
    vec![Change::PutTask(Box::new(record)), enforce_quota]
}
