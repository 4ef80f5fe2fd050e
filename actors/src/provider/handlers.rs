//! Message handlers of the `ProviderActor`.

use actix::prelude::*;
use tokio::sync::oneshot;
use wire::{Feature, texts};

use super::admission_queue::Admission;
use super::job::StopReason;
use super::messages::{Abort, Cancel, Drain, GetReport, Infer, Reconfigure, SetPaused};
use super::{JobEnded, ProviderActor, WaitingTask};
use crate::backend;
use crate::status::ProviderReport;
use crate::wake::messages::PowerChanged;

impl Handler<Infer> for ProviderActor {
    type Result = ();

    fn handle(&mut self, infer: Infer, ctx: &mut Self::Context) {
        if let Some(pause) = self.pause.filter(|_| infer.features.has(Feature::Status)) {
            // The hub learns of the pause within a second. Until then its tasks are refused with `Retry-After`.
            return self.refuse_paused(infer.ticket, pause);
        }
        let (backlog, size) = (self.outbox.backlog(), infer.size());
        let permit =
            if self.queue.must_wait() { backlog.try_reserve(size) } else { Some(backlog.reserve(size)) };
        let Some(permit) = permit else {
            let limit = backlog.limit_mebibytes();
            let text = format!("{limit} MiB of requests wait at the publisher already, try again later");
            return self.refuse_full(infer.ticket, &text);
        };
        match self.queue.admit(infer.task.id.clone(), WaitingTask { infer, _permit: permit }) {
            Admission::Queued => self.start_next(ctx),
            Admission::Closed(waiting) => self.refuse(waiting.infer.ticket, texts::SHUTTING_DOWN),
            Admission::Full(waiting) => {
                let text = format!("the queue of '{}' is full", self.config.wire_name);
                self.refuse_full(waiting.infer.ticket, &text);
            }
        }
    }
}

impl Handler<JobEnded> for ProviderActor {
    type Result = ();

    fn handle(&mut self, ended: JobEnded, ctx: &mut Self::Context) {
        self.queue.end(&ended.id);
        self.tasks_done += 1;
        self.pace.add(ended.took);
        self.tokens_per_second = ended.report.tokens_per_second.or(self.tokens_per_second);
        if let Some(reached) = ended.report.reached {
            self.health.observed(reached);
        }
        self.start_next(ctx);
        self.sleep_when_idle(ctx);
    }
}

impl Handler<Cancel> for ProviderActor {
    type Result = ();

    fn handle(&mut self, cancel: Cancel, ctx: &mut Self::Context) {
        if let Some(waiting) = self.queue.withdraw(&cancel.task_id) {
            self.outbox.close(waiting.infer.ticket);
            self.changed(ctx);
        } else if let Some(stop) = self.queue.running_mut(&cancel.task_id) {
            stop_job(stop, StopReason::CallerLeft);
        }
    }
}

impl Handler<Drain> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.refuse_waiting(texts::SHUTTING_DOWN);
        self.changed(ctx);
    }
}

impl Handler<Abort> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: Abort, _: &mut Self::Context) {
        self.refuse_waiting(texts::SHUTTING_DOWN);
        for stop in self.queue.all_running_mut() {
            stop_job(stop, StopReason::Error(texts::SHUTTING_DOWN.to_owned()));
        }
    }
}

impl Handler<Reconfigure> for ProviderActor {
    type Result = ();

    fn handle(&mut self, new: Reconfigure, ctx: &mut Self::Context) {
        self.config = new.config;
        self.backend = backend::make(&self.config, &self.links.http);
        self.queue.resize(self.config.max_concurrency.max(1), self.config.max_queue);
        // A check and an idle timer of the old settings mean nothing for the new ones.
        for old in [self.state.check.take(), self.state.idle.timer.take()].into_iter().flatten() {
            ctx.cancel_future(old);
        }
        self.start_next(ctx);
        self.check_health(ctx);
        self.sleep_when_idle(ctx);
    }
}

impl Handler<SetPaused> for ProviderActor {
    type Result = ();

    fn handle(&mut self, SetPaused(pause): SetPaused, ctx: &mut Self::Context) {
        self.queue.set_paused(pause.is_some());
        self.pause = pause;
        self.start_next(ctx);
    }
}

impl Handler<PowerChanged> for ProviderActor {
    type Result = ();

    fn handle(&mut self, power: PowerChanged, ctx: &mut Self::Context) {
        self.health.power_changed(power.awake);
        self.changed(ctx);
        self.sleep_when_idle(ctx);
    }
}

impl Handler<GetReport> for ProviderActor {
    type Result = ProviderReport;

    fn handle(&mut self, _: GetReport, _: &mut Self::Context) -> ProviderReport {
        self.report()
    }
}

/// Stops a job. Only the first reason reaches it: later ones go to a channel without a receiver.
fn stop_job(stop: &mut oneshot::Sender<StopReason>, reason: StopReason) {
    let (spent, _) = oneshot::channel();
    // A job that has just ended has dropped its receiver.
    let _ = std::mem::replace(stop, spent).send(reason);
}
