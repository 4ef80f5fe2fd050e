//! The record of one inference, from its beginning to its end.

mod begin;
mod billed;
mod owner;

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use wire::openai::Usage;
use wire::row::Timestamp;

pub use begin::RequestInfo;

use super::rate::Meter;
use super::{CacheCounters, Limit, TaskView, Watch, brief};
use crate::clock;
use crate::dispatch::Tally;
use crate::error::ErrorKind;
use crate::model::{AuditRecord, Day, TokenCounts, UsageCounts, UsageKey, UserId};
use crate::news::news;
use crate::registry::Candidate;
use crate::tasks::{Attempt, Effect, Event, TaskState};
use crate::trace::{address_label, session_label};

/// Status of an inference whose caller left before the end of the answer, as in nginx.
pub(crate) const CALLER_LEFT: u16 = 499;
/// Status of an inference whose token was revoked meanwhile. It is not logged.
const UNAUTHORIZED: u16 = 401;

/// The member that an inference was last sent to.
struct Destination {
    llm: String,
    owner: UserId,
    /// The agent that is shown instead of the row, if the caller may not see the row.
    through: Option<String>,
    model: String,
    /// The publisher's session; `None` for a public row.
    session: Option<String>,
    /// The id of the dispatch.
    task: String,
    /// When it was sent.
    sent: Instant,
    /// Counts the prompt tokens of the row.
    cache: Arc<CacheCounters>,
}

/// A running inference. One that is dropped without [`Inference::end`] counts as a caller who left.
pub struct Inference {
    watch: Arc<Watch>,
    request: RequestInfo,
    id: String,
    request_id: Option<String>,
    address: Option<IpAddr>,
    state: TaskState,
    attempt: Option<Attempt>,
    destination: Option<Destination>,
    /// Counts the tokens of the destination.
    meter: Option<Arc<Meter>>,
    /// The number in the list of recent inferences; `None` for a durable task.
    listed: Option<u64>,
    created_at: Timestamp,
    began: Instant,
    first_byte: Option<Instant>,
    last_chunk: Option<Instant>,
    usage: Usage,
    /// Events with content of a streamed answer; `None` before its first event.
    content: Option<u64>,
    /// Bytes of the answer.
    answer_bytes: usize,
    ended: bool,
    /// Whether the destination is public, and the inference counts in the public metrics.
    is_public: bool,
    /// Whether another member than the destination is tried, or was tried last, and nothing was sent to it.
    is_unsent: bool,
}

impl Inference {
    #[cfg(test)]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Sets the id and the address of the HTTP call.
    pub fn set_request(&mut self, id: &str, address: Option<IpAddr>) {
        self.request_id = Some(id.to_owned());
        self.address = address;
    }

    /// Records that the inference was sent to `member` as dispatch `task`. An earlier attempt is over.
    pub fn sent(&mut self, task: &str, member: &Candidate) {
        if let Some(attempt) = self.attempt.take() {
            self.state.step(Event::Lose(attempt));
        }
        if let Effect::Send(attempt) = self.state.step(Event::Claim) {
            self.attempt = Some(attempt);
        }
        self.update_view(|view| {
            let is_shown = member.through.is_none();
            view.pool_name = member.pool.clone().filter(|_| is_shown);
            view.llm_name = is_shown.then(|| member.name.clone());
            view.model = is_shown.then(|| member.model.clone());
            view.worker = member.session.clone().filter(|_| is_shown);
        });
        self.set_public(member.is_public());
        self.meter = Some(self.watch.rates.meter(&member.name));
        self.is_unsent = false;
        self.destination = Some(Destination {
            llm: member.name.clone(),
            owner: member.owner.clone(),
            through: member.through.clone(),
            model: member.model.clone(),
            session: member.session.clone(),
            task: task.to_owned(),
            sent: Instant::now(),
            cache: member.cache.clone(),
        });
    }

    fn set_public(&mut self, is_public: bool) {
        match (std::mem::replace(&mut self.is_public, is_public), is_public) {
            (false, true) => self.watch.shared.in_flight.inc(),
            (true, false) => self.watch.shared.in_flight.dec(),
            _ => (),
        }
    }

    /// Records a piece of the answer, or all of it.
    pub fn piece(&mut self) {
        let now = Instant::now();
        let last = self.last_chunk.replace(now);
        for metrics in self.watch.counters(self.is_public) {
            match last {
                Some(last) => metrics.gap.observe((now - last).as_secs_f64()),
                None => metrics.first_byte.observe((now - self.began).as_secs_f64()),
            }
        }
        if last.is_some() {
            return;
        }
        self.first_byte = Some(now);
        if let Some(attempt) = self.attempt {
            self.state.step(Event::Chunk(attempt));
        }
        self.update_view(|_| ());
    }

    /// Records what the events of a streamed answer count for.
    pub fn events(&mut self, tally: Tally) {
        if let Some(meter) = self.meter.as_ref().filter(|_| tally.content > 0) {
            // An event counts as one token, since the usage comes only at the end.
            meter.add(tally.content);
        }
        self.content = Some(self.content.unwrap_or_default() + tally.content);
        if let Some(usage) = tally.usage {
            self.usage(usage);
        }
    }

    /// Records the usage in the answer. Some APIs report input and output tokens in two parts.
    pub fn usage(&mut self, usage: Usage) {
        self.usage = self.usage.merged(usage);
    }

    /// Counts a refusal by `limit`.
    pub fn count_refusal(&self, limit: Limit) {
        self.watch.machine.refused_by(limit);
    }

    /// Ends the inference with the HTTP status of the answer and the error, if it failed. Returns its tokens.
    pub fn end(mut self, status: u16, error: Option<(ErrorKind, &str)>) -> TokenCounts {
        let tokens = self.tokens(status < 400 && error.is_none());
        self.finish(status, error, tokens);
        tokens
    }

    fn finish(&mut self, status: u16, error: Option<(ErrorKind, &str)>, tokens: TokenCounts) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let event = match self.attempt {
            _ if status == CALLER_LEFT => Event::Cancel,
            Some(attempt) if status < 400 && error.is_none() => Event::Answer(attempt),
            Some(attempt) => Event::Fail(attempt),
            None => Event::Expire,
        };
        self.state.step(event);
        if let (Some(meter), Some(tokens), false) = (&self.meter, self.usage.output, self.request.streaming) {
            meter.add(tokens);
        }
        if let (Some(to), Some(tokens)) = (&self.destination, self.usage.cache()) {
            to.cache.add(tokens);
        }
        self.watch.machine.count_tokens(tokens);
        let code = match error {
            Some((kind, _)) => Some(kind.code()),
            None if status == CALLER_LEFT => Some(ErrorKind::CallerLeft.code()),
            None => None,
        };
        if let Some(number) = self.listed {
            let (status, error) = (self.state.status(), error.map(|(_, message)| brief(message)));
            self.watch.recent.end(number, |view| {
                view.status = status;
                view.error = error;
                view.code = code.map(str::to_owned);
                view.tokens = Some(tokens);
                view.updated_at = clock::now();
            });
        }
        self.watch.metrics.in_flight.dec();
        for metrics in self.watch.counters(self.is_public) {
            metrics.ended(self.request.endpoint, status);
        }
        self.set_public(false);
        let millis = |from: Instant, to: Instant| u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX);
        let billed = self.billed(tokens);
        let owner = self.owner().cloned();
        let destination = self.destination.take();
        let now = Instant::now();
        let total_ms = millis(self.began, now);
        if let Some(code) = code.filter(|_| status != UNAUTHORIZED) {
            let llm = destination.as_ref().map_or(&self.request.target, |to| &to.llm);
            let publisher = session_label(destination.as_ref().and_then(|to| to.session.as_deref()));
            let request = self.request_id.as_deref().unwrap_or("-");
            news!(
                info,
                code,
                &self.request.user,
                [
                    user = self.request.user,
                    address = address_label(self.address),
                    llm = llm,
                    publisher = publisher,
                    status = status,
                    code = code,
                    ms = total_ms,
                    request = request,
                    id = self.id
                ],
                "call failed: user={} address={} row={llm} publisher={publisher} status={status} code={code} ms={total_ms} \
                 request={request} id={}",
                self.request.user,
                address_label(self.address),
                self.id,
            );
        }
        let counts = UsageCounts::of_call(billed, destination.as_ref().map_or(0, |to| millis(to.sent, now)));
        let record = AuditRecord {
            id: self.id.clone(),
            request_id: self.request_id.take(),
            code: code.map(str::to_owned),
            task: destination.as_ref().map_or_else(|| self.id.clone(), |to| to.task.clone()),
            user: self.request.user.clone(),
            address: self.address,
            owner,
            through: destination.as_ref().and_then(|to| to.through.clone()),
            llm: destination.as_ref().map_or_else(|| self.request.target.clone(), |to| to.llm.clone()),
            model: destination.as_ref().map(|to| to.model.clone()).unwrap_or_default(),
            publisher: destination.and_then(|to| to.session),
            streaming: self.request.streaming,
            status,
            created_at: self.created_at,
            first_byte_ms: self.first_byte.map(|first| millis(self.began, first)),
            total_ms,
            tokens,
        };
        let key = UsageKey {
            day: Day::of(clock::now()),
            user: record.user.clone(),
            token: std::mem::take(&mut self.request.token),
            llm: record.llm.clone(),
            through: record.through.clone().unwrap_or_default(),
            code: code.unwrap_or_default().to_owned(),
        };
        self.watch.limits.count(&key.user, &key.token, key.day, counts.tokens());
        self.watch.audit.add(record, key, counts);
    }

    fn update_view(&self, change: impl FnOnce(&mut TaskView)) {
        if let Some(number) = self.listed {
            let status = self.state.status();
            self.watch.recent.update(number, |view| {
                view.status = status;
                view.updated_at = clock::now();
                change(view);
            });
        }
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        let tokens = self.tokens(false);
        self.finish(CALLER_LEFT, None, tokens);
    }
}
