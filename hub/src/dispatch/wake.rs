//! Waking: one wake task for a row, however many callers wait.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::attempt::{Dispatch, ResponsePiece, Work};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::registry::Candidate;
use crate::telemetry::WakeOutcome;

/// How a wake ended; nothing while it runs.
type Outcome = Option<Result<(), ApiError>>;

/// The wake tasks under way, by row.
#[derive(Default)]
pub struct Wakes {
    running: HashMap<String, watch::Receiver<Outcome>>,
}

impl Wakes {
    /// Whether a wake task of the row is under way.
    pub fn is_waking(&self, row: &str) -> bool {
        self.under_way(row).is_some()
    }

    /// One whose sender is gone crashed: it tells nobody anything more.
    fn under_way(&self, row: &str) -> Option<&watch::Receiver<Outcome>> {
        self.running.get(row).filter(|outcome| outcome.has_changed().is_ok())
    }

    /// One more caller wants the row awake: how it will learn of it, and the duty to wake it, where nobody has that yet.
    /// Whoever waits is counted among the calls or the durable tasks of its user, so that nobody takes another's place.
    fn join(&mut self, row: &str) -> (watch::Receiver<Outcome>, Option<watch::Sender<Outcome>>) {
        if let Some(outcome) = self.under_way(row) {
            return (outcome.clone(), None);
        }
        let (sender, outcome) = watch::channel(None);
        self.running.insert(row.to_owned(), outcome.clone());
        (outcome, Some(sender))
    }
}

/// Sees to it that the row is awake, with all others who want it.
pub(crate) async fn wake(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let (mut outcome, begin) = hub.wakes.lock().join(&candidate.name);
    if let Some(sender) = begin {
        hub.registry.lock().mark_changed(&candidate.name);
        // On its own: the caller who began it may leave, the others still want it.
        let (hub, candidate) = (hub.clone(), candidate.clone());
        tokio::spawn(async move {
            let start = Instant::now();
            let result = run(&hub, &candidate).await;
            let outcome = if result.is_ok() { WakeOutcome::Ok } else { WakeOutcome::Failed };
            let took = start.elapsed();
            hub.watch.counters(candidate.is_public()).for_each(|metrics| metrics.woke(outcome, took));
            if result.is_ok() {
                hub.change(|registry| {
                    let changes = registry.mark_awake(&candidate.name, hub.now());
                    hub.offer(registry, &candidate.name);
                    ((), changes)
                });
            }
            hub.wakes.lock().running.remove(&candidate.name);
            hub.registry.lock().mark_changed(&candidate.name);
            sender.send_replace(Some(result));
        });
    }
    match outcome.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(Ok(()))) => Ok(()),
        Ok(Some(Err(error))) => Err(error.clone().reword(|text| candidate.redaction().apply(text))),
        Ok(None) | Err(_) => Err(unwoken(format!("'{}' could not be woken", candidate.shown_name()))),
    }
}

fn unwoken(message: impl Into<Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::WakeFailed, message)
}

async fn run(hub: &Arc<Hub>, candidate: &Candidate) -> Result<(), ApiError> {
    let mut attempt = Dispatch::start(hub, candidate, &Work::Wake)?;
    let first = async {
        loop {
            match attempt.next().await {
                Some(ResponsePiece::Reattached) => {
                    drop(attempt.send(candidate, &candidate.owner, &Work::Wake))
                }
                first => break first,
            }
        }
    };
    match timeout(hub.options.timings.wait_timeout, first).await {
        Ok(Some(ResponsePiece::Answer { status: 200..=299, .. })) => Ok(()),
        // In whatever words: what failed is the wake.
        Ok(Some(ResponsePiece::Error(error))) if error.kind == ErrorKind::BadGateway => {
            Err(unwoken(error.message))
        }
        Ok(Some(ResponsePiece::Error(error))) => Err(error),
        Ok(Some(ResponsePiece::Answer { status, .. })) => {
            Err(unwoken(format!("the wake ended with status {status}")))
        }
        Ok(Some(ResponsePiece::Events { .. } | ResponsePiece::Done)) => {
            Err(unwoken("the wake ended with a stream"))
        }
        Ok(Some(ResponsePiece::Reattached) | None) => {
            Err(ApiError::new(ErrorKind::PublisherLost, "the publisher was lost"))
        }
        Err(_) => Err(unwoken("the wake did not end in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_those_who_wait_has_the_duty_and_a_wake_that_crashed_is_begun_again() {
        let mut wakes = Wakes::default();
        let (_, duty) = wakes.join("a");
        assert!(duty.is_some() && wakes.is_waking("a"));
        assert!(wakes.join("a").1.is_none());
        drop(duty);
        assert!(!wakes.is_waking("a"));
        assert!(wakes.join("a").1.is_some());
    }
}
