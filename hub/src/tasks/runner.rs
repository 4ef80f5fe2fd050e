//! The runner of one claimed task, from the commit of its claim to its end.

use std::sync::Arc;

use wire::task::Endpoint;

use super::attempt::{AttemptResult, run_attempt};
use super::ending::{Ending, end};
use super::orphans::{forget, is_own};
use super::state::{Attempt, Event};
use crate::agents;
use crate::dispatch::{ActiveCall, InferenceRequest, Priority, RequestBody, Reservation, refusal};
use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::model::{Caller, DurableTask};
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::{Candidate, Target};
use crate::store::Change;
use crate::telemetry::RequestInfo;

/// A claimed task, and the member that it is sent to.
pub(super) struct ClaimedTask {
    pub(super) number: u64,
    pub(super) attempt: Attempt,
    pub(super) task: DurableTask,
    pub(super) caller: Caller,
    pub(super) target: Target,
    pub(super) member: Candidate,
    pub(super) slot: Reservation,
}

/// Runs a claimed task to its end, or puts it back into its queue.
pub(super) async fn run_task(hub: Arc<Hub>, claimed: ClaimedTask) {
    let ClaimedTask { number, attempt, task, caller, target, member, slot } = claimed;
    let mut permit = hub.out_of(&task.owner).empty();
    if hub.reach_row(&member).await.is_err() {
        return requeue(&hub, number, attempt, false);
    }
    let known_size = hub.tasks.with(number, |open| open.size).flatten();
    if let (Some(session), Some(size)) = (&member.session, known_size)
        && !hub.channels.has_room(session, &caller.user, size)
    {
        // The publisher does not read its channel: no large request is read from disk for it.
        return requeue(&hub, number, attempt, false);
    }
    if !permit.regrow(known_size.unwrap_or(0)) {
        // The owner's quota of requests in memory is used up: the request stays on disk.
        return requeue(&hub, number, attempt, false);
    }
    #[cfg(test)]
    hub.tasks.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let stored = hub.store.task(&task.id).await;
    let Some(request) = stored.ok().flatten().and_then(|stored| stored.request) else {
        // The store cannot be read now.
        return requeue(&hub, number, attempt, false);
    };
    if known_size.is_none() {
        // A task from before a restart.
        let size = request.len();
        hub.tasks.with(number, |open| open.size = Some(size));
        if !permit.regrow(size) {
            return requeue(&hub, number, attempt, false);
        }
    }
    // Committed before the task is sent, so that after a crash it is known to have been sent.
    let claim =
        Change::ClaimTask { id: task.id.clone(), llm: task.llm.clone(), session: task.session.clone() };
    let write = || hub.store.write(vec![claim]);
    let Some(written) = hub.tasks.if_running(number, attempt, write) else { return };
    if written.await.is_err() {
        return requeue(&hub, number, attempt, true);
    }
    match is_own(&hub, &task.id).await {
        Ok(true) => {}
        Ok(false) => return forget(&hub, number),
        Err(_) => return requeue(&hub, number, attempt, true),
    }
    let body = match prepare_request(&hub, &caller, &target, request, permit).await {
        Ok(body) => body,
        // The request, extended by an agent's prompt, exceeds the quota for now.
        Err(error) if matches!(error.kind, ErrorKind::Busy | ErrorKind::HubBusy) => {
            return requeue(&hub, number, attempt, true);
        }
        Err(error) => return end(&hub, number, Event::Fail(attempt), error.into()),
    };
    let call = call(&hub, number, &task, body.as_str().len());
    let request = InferenceRequest {
        caller,
        target,
        endpoint: Endpoint::ChatCompletions,
        streaming: task.streaming,
        body,
        headers: Vec::new(),
        set_model: true,
        // Its member was picked before its text was read.
        conversation: None,
        is_chained: false,
        queue_timeout: None,
        priority: Priority::Normal,
    };
    let (result, notifier) = run_attempt(&hub, number, attempt, &request, &call, member, slot).await;
    let (event, mut ending) = match result {
        // The hub stops: the task ends when it starts again.
        AttemptResult::Lost if hub.is_stopping() => return,
        AttemptResult::Lost => {
            requeue(&hub, number, attempt, true);
            return notifier.commit();
        }
        AttemptResult::Failed(error) => (Event::Fail(attempt), error.into()),
        AttemptResult::Answered(status, body, permit) => {
            hub.tasks.with(number, |open| open.answer_bytes = permit);
            let error = (status >= 400).then(|| refusal(status, &body));
            let event = if error.is_none() { Event::Answer(attempt) } else { Event::Fail(attempt) };
            (event, Ending { result: Some((status, body)), error, notifier: None })
        }
        AttemptResult::Streamed => {
            let chunks = hub.tasks.take_chunks(number);
            match offload(&task.owner, chunks.size(), move || Ok(chunks.into_array())).await {
                Ok(array) => {
                    (Event::Answer(attempt), Ending { result: Some((200, array)), ..Ending::default() })
                }
                Err(error) => (Event::Fail(attempt), error.into()),
            }
        }
    };
    ending.notifier = Some(notifier);
    end(&hub, number, event, ending);
}

/// The `ActiveCall` of the task, created at its first dispatch; its request has so many bytes.
fn call(hub: &Arc<Hub>, number: u64, task: &DurableTask, bytes: usize) -> Arc<ActiveCall> {
    let begin = || {
        let info = RequestInfo {
            user: task.owner.clone(),
            token: task.token.clone().unwrap_or_default(),
            target: task.target.clone(),
            target_owner: task.target_owner.clone(),
            endpoint: Endpoint::ChatCompletions,
            streaming: task.streaming,
            bytes,
        };
        ActiveCall::durable(hub.watch.begin_unlisted(info, task.id.clone()))
    };
    let call = hub.tasks.with(number, |open| open.call.get_or_insert_with(begin).clone());
    call.unwrap_or_else(begin)
}

/// Puts a task back into its queue. `is_committed`: whether the store may have its claim.
fn requeue(hub: &Arc<Hub>, number: u64, attempt: Attempt, is_committed: bool) {
    let now = hub.now().mono;
    hub.tasks.step(number, Event::Lose(attempt), |open, _| {
        open.requeue(now);
        if is_committed {
            hub.save(vec![Change::UnclaimTask(open.task.id.clone())]);
        }
    });
    hub.tasks.claimable.notify_one();
}

/// Parses the stored request and adds the prompt of the agent in `target`.
async fn prepare_request(
    hub: &Hub,
    caller: &Caller,
    target: &Target,
    request: String,
    permit: BytesPermit,
) -> Result<RequestBody, ApiError> {
    let agent = match &target.through {
        Some(through) => {
            let agent = hub.registry.lock().agent(caller, &through.agent).cloned();
            Some(agent.ok_or_else(|| ApiError::not_found("agent", &through.agent))?)
        }
        None => None,
    };
    let size = request.len();
    let parse = move || Ok(RequestBody::parse(request.into())?.counted(permit));
    let request = offload(&caller.user, size, parse).await?;
    match agent {
        Some(agent) => {
            agents::apply_to_request(agent, Endpoint::ChatCompletions, &caller.user, request).await
        }
        None => Ok(request),
    }
}
