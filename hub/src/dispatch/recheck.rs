//! Whether a request may still go to the member that was picked for it. Checked before each send, the repeated ones too.

use std::sync::Arc;

use futures_util::future::select_all;

use super::capacity::ClaimWait;
use super::failure::absent;
use super::request::InferenceRequest;
use super::wake::wake;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::registry::{Candidate, Registry, UnavailableReason};

/// The error of a request that may not go to `candidate` any more: 404 if the name that was called has another owner, the
/// row's refusal if its owner took `allowRemoteUrls` back and the request needs it, else as of a row without publisher.
pub(super) fn check_member(
    hub: &Hub,
    registry: &Registry,
    request: &InferenceRequest,
    candidate: &Candidate,
) -> Result<(), ApiError> {
    let name = request.target.shown_name();
    if registry.is_target_taken_over(&request.target) {
        return Err(ApiError::model_not_found(name));
    }
    if registry.may_still_serve(&request.caller, &request.target, candidate) {
        return Ok(());
    }
    let absent = || absent(name, UnavailableReason::PublisherAway, hub.now().wall);
    Err(refusal_now(registry, request, candidate).unwrap_or_else(absent))
}

/// Why the row of `candidate` refuses the request, if it may serve the caller but no longer allows what it did at the pick.
fn refusal_now(registry: &Registry, request: &InferenceRequest, candidate: &Candidate) -> Option<ApiError> {
    let narrowed = Candidate { allow_remote_urls: false, ..candidate.clone() };
    let serves = candidate.allow_remote_urls
        && registry.may_still_serve(&request.caller, &request.target, &narrowed)
        && !registry.may_still_serve(&request.caller, &request.target, candidate);
    if serves { request.body.refused_by(&request.caller.user, &narrowed) } else { None }
}

/// Whether the row of `candidate` refuses the request's parameters, which it allowed at the pick.
pub(crate) fn refuses_now(hub: &Hub, request: &InferenceRequest, candidate: &Candidate) -> bool {
    candidate.allow_remote_urls && refusal_now(&hub.registry.lock(), request, candidate).is_some()
}

/// Resolves with the error of [`check_member`] once the name that was called, or the row's, has another owner.
async fn given_away(hub: &Arc<Hub>, request: &InferenceRequest, candidate: &Candidate) -> ApiError {
    let called = request.target.shown_name();
    let names = [called, &candidate.name];
    let names = if called == candidate.name { &names[..1] } else { &names };
    loop {
        let mut waits: Vec<ClaimWait> = {
            let registry = hub.registry.lock();
            if let Err(error) = check_member(hub, &registry, request, candidate) {
                return error;
            }
            names.iter().map(|name| ClaimWait::new(hub, &registry, name)).collect()
        };
        select_all(waits.iter_mut().map(|wait| Box::pin(wait.claimed()))).await;
    }
}

/// Wakes the row of `candidate` for a request, and ends the wait with an error once the row may not serve it.
pub(crate) async fn wake_for(
    hub: &Arc<Hub>,
    request: &InferenceRequest,
    candidate: &Candidate,
) -> Result<(), ApiError> {
    tokio::select! {
        biased;
        error = given_away(hub, request, candidate) => Err(error),
        woken = wake(hub, candidate) => woken,
    }
}
