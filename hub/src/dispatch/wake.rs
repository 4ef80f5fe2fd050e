//! Waking: one wake task per row, however many callers wait.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use wire::task::Endpoint;

use super::encode::EventFormat;
use super::failure::refusal;
use super::handle::{Dispatch, DispatchPayload, DispatchedCall};
use super::piece::ResponsePiece;
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::registry::Candidate;
use crate::telemetry::WakeOutcome;

/// How a wake task ended; `None` while it runs.
type WakeState = Option<Result<(), ApiError>>;

/// A row and its session, which is one user's: a row of the same name at another user's session is another row.
type WakeKey = (String, Option<String>);

/// The running wake tasks.
#[derive(Default)]
pub(crate) struct WakeTable {
    running: HashMap<WakeKey, watch::Receiver<WakeState>>,
}

impl WakeTable {
    /// Whether a wake task of the row on `session` runs.
    pub(crate) fn is_waking(&self, row: &str, session: Option<&str>) -> bool {
        self.running(&key_of(row, session)).is_some()
    }

    /// The result of the wake task, unless its sender was dropped by a panic.
    fn running(&self, key: &WakeKey) -> Option<&watch::Receiver<WakeState>> {
        self.running.get(key).filter(|result| result.has_changed().is_ok())
    }

    /// Adds a caller that waits for the row. Returns a sender if the caller has to start the wake task.
    fn join(&mut self, key: WakeKey) -> (watch::Receiver<WakeState>, Option<watch::Sender<WakeState>>) {
        if let Some(result) = self.running(&key) {
            return (result.clone(), None);
        }
        let (sender, result) = watch::channel(None);
        self.running.insert(key, result.clone());
        (result, Some(sender))
    }
}

fn key_of(row: &str, session: Option<&str>) -> WakeKey {
    (row.to_owned(), session.map(str::to_owned))
}

/// Wakes the row, or waits for the wake task that runs.
pub(crate) async fn wake(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let key = key_of(&candidate.name, candidate.session.as_deref());
    let (mut result, sender) = hub.wakes.lock().join(key);
    if let Some(sender) = sender {
        hub.registry.lock().mark_changed(&candidate.name);
        // A task of its own: the caller that started it may leave while others wait.
        tokio::spawn(run_wake(hub.clone(), candidate.clone(), sender));
    }
    match result.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(error))) => Err(error.clone().reword(|text| candidate.redaction().apply(text))),
        Ok(None) | Err(_) => Err(wake_failed(format!("'{}' could not be woken", candidate.shown_name()))),
    }
}

async fn run_wake(hub: Arc<Hub>, candidate: Candidate, sender: watch::Sender<WakeState>) {
    let start = Instant::now();
    let result = dispatch_wake(&hub, &candidate).await;
    let outcome = if result.is_ok() { WakeOutcome::Ok } else { WakeOutcome::Failed };
    let took = start.elapsed();
    hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.woke(outcome, took));
    if result.is_ok() {
        // The next heartbeat would say the same.
        let Ok(()) = hub.note(|registry| {
            if !registry.is_same_row(&candidate) {
                return Ok::<_, Infallible>(((), Vec::new()));
            }
            let changes = registry.mark_awake(&candidate.name, hub.now());
            hub.offer(registry, &candidate.name);
            Ok(((), changes))
        });
    }
    hub.wakes.lock().running.remove(&key_of(&candidate.name, candidate.session.as_deref()));
    hub.registry.lock().mark_changed(&candidate.name);
    sender.send_replace(Some(result));
}

/// Sends the wake task to the row's publisher and waits for its result.
async fn dispatch_wake(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let owner = &candidate.owner;
    let called = candidate.name.as_str();
    let format = EventFormat { endpoint: Endpoint::ChatCompletions, drops_usage: false };
    let call = DispatchedCall { called, reader: owner, streaming: false, format };
    hub.reach_row(candidate).await?;
    let (mut dispatch, _) = Dispatch::open(hub, candidate, call, None, None)?;
    let gone = || ApiError::new(ErrorKind::PublisherLost, "the publisher was lost");
    let check = || if hub.registry.lock().is_same_row(candidate) { Ok(()) } else { Err(gone()) };
    // The name may have been claimed since the pick. Later claims find the dispatch.
    check()?;
    dispatch.send(candidate, owner, &DispatchPayload::Wake)?;
    let first = async {
        loop {
            let piece = dispatch.next().await;
            let is_reattached = matches!(piece, Some(ResponsePiece::Reattached));
            if !is_reattached && !matches!(piece, Some(ResponsePiece::Recheck)) {
                break piece;
            }
            if let Err(error) = check() {
                break Some(ResponsePiece::Error(error));
            }
            if is_reattached {
                drop(dispatch.send(candidate, owner, &DispatchPayload::Wake));
            }
        }
    };
    match timeout(hub.options.timings.wait_timeout, first).await {
        Ok(Some(ResponsePiece::Answer { status: 200..=299, .. })) => Ok(()),
        // A failure without a fixed text is a failure of the wake.
        Ok(Some(ResponsePiece::Error(error))) if error.kind == ErrorKind::BadGateway => {
            Err(wake_failed(error.message))
        }
        Ok(Some(ResponsePiece::Error(error))) => Err(error),
        // The row was paused while the wake task was on its way.
        Ok(Some(ResponsePiece::Answer { status: 503, body, retry_after, .. }))
            if refusal(503, body.get()).kind == ErrorKind::Paused =>
        {
            Err(refusal(503, body.get()).retry_after(retry_after))
        }
        Ok(Some(ResponsePiece::Answer { status, .. })) => {
            Err(wake_failed(format!("the wake ended with status {status}")))
        }
        Ok(Some(ResponsePiece::Events { .. } | ResponsePiece::Done)) => {
            Err(wake_failed("the wake ended with a stream"))
        }
        Ok(Some(ResponsePiece::Reattached | ResponsePiece::Recheck) | None) => Err(gone()),
        Err(_) => Err(wake_failed("the wake did not end in time")),
    }
}

fn wake_failed(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::WakeFailed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_starts_the_wake_and_a_panicked_wake_is_restarted() {
        let mut wakes = WakeTable::default();
        let key = || key_of("a", Some("s"));
        let (_, sender) = wakes.join(key());
        assert!(sender.is_some() && wakes.is_waking("a", Some("s")));
        assert!(wakes.join(key()).1.is_none());
        drop(sender);
        assert!(!wakes.is_waking("a", Some("s")));
        assert!(wakes.join(key()).1.is_some());
    }

    #[test]
    fn a_row_of_one_name_at_another_session_has_its_own_wake() {
        let mut wakes = WakeTable::default();
        let (_, _sender) = wakes.join(key_of("a", Some("s")));
        assert!(!wakes.is_waking("a", Some("other")));
        assert!(wakes.join(key_of("a", Some("other"))).1.is_some());
    }
}
