//! One inference, as it is watched from its beginning to its one end.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use wire::openai::Usage;
use wire::row::Timestamp;
use wire::task::Endpoint;

use super::rate::Meter;
use super::{TaskView, Watch, brief};
use crate::error::ErrorKind;
use crate::model::{AuditRecord, TaskStatus, UserId};
use crate::news::news;
use crate::tasks::{Attempt, Effect, Event, TaskState};
use crate::trace::{address_label, session_label};
use crate::{clock, random};

/// A caller who left before the answer was whole, as nginx has it.
const CALLER_LEFT: u16 = 499;
/// A token that was revoked in the middle of an answer: no line in the log.
const UNAUTHORIZED: u16 = 401;

/// What a caller asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Who.
    pub user: UserId,
    /// Row, pool or agent, as named by the caller.
    pub target: String,
    /// Of which kind.
    pub endpoint: Endpoint,
    /// Whether chunks are wanted.
    pub streaming: bool,
}

/// Who takes it.
#[derive(Debug, Clone)]
pub struct Taker {
    /// The row.
    pub llm: String,
    /// The agent that stands for the row where the row is hidden from who asked.
    pub through: Option<String>,
    /// Its pool.
    pub pool: Option<String>,
    /// Its model.
    pub model: String,
    /// Its publisher's session; none for a public row.
    pub session: Option<String>,
    /// The id of the dispatch.
    pub task: String,
    /// Whether everybody may see the row.
    pub shared: bool,
}

/// One inference that is watched. Dropped without [`Inference::end`], its caller left.
pub struct Inference {
    watch: Arc<Watch>,
    asked: Asked,
    id: String,
    request_id: Option<String>,
    address: Option<IpAddr>,
    life: TaskState,
    attempt: Option<Attempt>,
    taker: Option<Taker>,
    /// Counts the tokens of the row that took it.
    meter: Option<Arc<Meter>>,
    /// Its number in the list of tasks; a durable one stands in the queue's own list.
    listed: Option<u64>,
    created_at: Timestamp,
    began: Instant,
    first_byte: Option<Instant>,
    last_chunk: Option<Instant>,
    usage: Usage,
    ended: bool,
    /// Whether it counts among what everybody may see running.
    shown: bool,
}

impl Watch {
    /// Begins to watch a synchronous inference.
    pub fn begin(self: &Arc<Self>, asked: Asked) -> Inference {
        let mut inference = self.begin_unlisted(asked, random::id("inf"));
        let view = TaskView {
            id: inference.id.clone(),
            status: TaskStatus::Pending,
            llm: inference.asked.target.clone(),
            pool_name: None,
            llm_name: None,
            model: None,
            streaming: inference.asked.streaming,
            durable: false,
            worker: None,
            owner_id: inference.asked.user.clone(),
            position: None,
            error: None,
            code: None,
            created_at: inference.created_at,
            updated_at: inference.created_at,
        };
        inference.listed = Some(self.recent.add(view));
        inference
    }

    /// Begins to watch one that is listed elsewhere, under its own id.
    pub fn begin_unlisted(self: &Arc<Self>, asked: Asked, id: String) -> Inference {
        self.metrics.in_flight.inc();
        Inference {
            watch: Arc::clone(self),
            asked,
            id,
            request_id: None,
            address: None,
            life: TaskState::new(),
            attempt: None,
            taker: None,
            meter: None,
            listed: None,
            created_at: clock::now(),
            began: Instant::now(),
            first_byte: None,
            last_chunk: None,
            usage: Usage::default(),
            ended: false,
            shown: false,
        }
    }
}

impl Inference {
    #[cfg(test)]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// It is part of the HTTP call with this id, from there.
    pub fn set_request(&mut self, id: &str, address: Option<IpAddr>) {
        self.request_id = Some(id.to_owned());
        self.address = address;
    }

    /// It is sent to `taker`; an attempt before this one, if there was one, is over.
    pub fn sent(&mut self, taker: Taker) {
        if let Some(attempt) = self.attempt.take() {
            self.life.step(Event::Lose(attempt));
        }
        if let Effect::Send(attempt) = self.life.step(Event::Claim) {
            self.attempt = Some(attempt);
        }
        self.show(|view| {
            let shown = taker.through.is_none();
            view.pool_name = taker.pool.clone().filter(|_| shown);
            view.llm_name = shown.then(|| taker.llm.clone());
            view.model = shown.then(|| taker.model.clone());
            view.worker = taker.session.clone().filter(|_| shown);
        });
        self.count_shown(taker.shared);
        self.meter = Some(self.watch.rates.meter(&taker.llm));
        self.taker = Some(taker);
    }

    fn count_shown(&mut self, shown: bool) {
        match (std::mem::replace(&mut self.shown, shown), shown) {
            (false, true) => self.watch.shared.in_flight.inc(),
            (true, false) => self.watch.shared.in_flight.dec(),
            _ => (),
        }
    }

    /// Content came, the first or the next piece.
    pub fn chunk(&mut self) {
        let now = Instant::now();
        if let Some(meter) = self.meter.as_ref().filter(|_| self.asked.streaming) {
            // A chunk is a token, as near as one can tell before the usage comes.
            meter.add(1);
        }
        let last = self.last_chunk.replace(now);
        for metrics in self.watch.counters(self.shown) {
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
            self.life.step(Event::Chunk(attempt));
        }
        self.show(|_| ());
    }

    /// What the answer said that it cost.
    pub fn usage(&mut self, usage: Usage) {
        // An API may say it in two parts, one for what was read and one for what was written.
        self.usage =
            Usage { input: usage.input.or(self.usage.input), output: usage.output.or(self.usage.output) };
    }

    /// It is over: the status that the caller got, and why it failed, if it did.
    pub fn end(mut self, status: u16, error: Option<(ErrorKind, &str)>) {
        self.finish(status, error);
    }

    fn finish(&mut self, status: u16, error: Option<(ErrorKind, &str)>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let event = match self.attempt {
            _ if status == CALLER_LEFT => Event::Cancel,
            Some(attempt) if status < 400 && error.is_none() => Event::Answer(attempt),
            Some(attempt) => Event::Fail(attempt),
            None => Event::Expire,
        };
        self.life.step(event);
        if let (Some(meter), Some(tokens), false) = (&self.meter, self.usage.output, self.asked.streaming) {
            meter.add(tokens);
        }
        let code = match error {
            Some((kind, _)) => Some(kind.code()),
            None if status == CALLER_LEFT => Some(ErrorKind::CallerLeft.code()),
            None => None,
        };
        if let Some(number) = self.listed {
            let (state, error) = (self.life.state(), error.map(|(_, message)| brief(message)));
            self.watch.recent.end(number, |view| {
                view.status = state;
                view.error = error;
                view.code = code.map(str::to_owned);
                view.updated_at = clock::now();
            });
        }
        self.watch.metrics.in_flight.dec();
        for metrics in self.watch.counters(self.shown) {
            metrics.ended(self.asked.endpoint, status);
        }
        self.count_shown(false);
        let millis = |from: Instant, to: Instant| u64::try_from((to - from).as_millis()).unwrap_or(u64::MAX);
        let taker = self.taker.take();
        let total_ms = millis(self.began, Instant::now());
        if let Some(code) = code.filter(|_| status != UNAUTHORIZED) {
            news!(
                info,
                code,
                &self.asked.user,
                "call failed: user={} address={} row={} publisher={} status={status} code={code} ms={total_ms} request={} id={}",
                self.asked.user,
                address_label(self.address),
                taker.as_ref().map_or(&self.asked.target, |taker| &taker.llm),
                session_label(taker.as_ref().and_then(|taker| taker.session.as_deref())),
                self.request_id.as_deref().unwrap_or("-"),
                self.id,
            );
        }
        self.watch.audit.add(AuditRecord {
            id: self.id.clone(),
            request_id: self.request_id.take(),
            code: code.map(str::to_owned),
            task: taker.as_ref().map_or_else(|| self.id.clone(), |taker| taker.task.clone()),
            user: self.asked.user.clone(),
            address: self.address,
            through: taker.as_ref().and_then(|taker| taker.through.clone()),
            llm: taker.as_ref().map_or_else(|| self.asked.target.clone(), |taker| taker.llm.clone()),
            model: taker.as_ref().map(|taker| taker.model.clone()).unwrap_or_default(),
            publisher: taker.and_then(|taker| taker.session),
            streaming: self.asked.streaming,
            status,
            created_at: self.created_at,
            first_byte_ms: self.first_byte.map(|first| millis(self.began, first)),
            total_ms,
            input_tokens: self.usage.input,
            output_tokens: self.usage.output,
        });
    }

    fn show(&self, change: impl FnOnce(&mut TaskView)) {
        if let Some(number) = self.listed {
            let state = self.life.state();
            self.watch.recent.update(number, |view| {
                view.status = state;
                view.updated_at = clock::now();
                change(view);
            });
        }
    }
}

impl Drop for Inference {
    fn drop(&mut self) {
        self.finish(CALLER_LEFT, None);
    }
}
