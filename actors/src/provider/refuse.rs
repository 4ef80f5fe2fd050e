//! Refusals of tasks that do not run.

use wire::result::TaskResult;
use wire::{openai, texts};

use super::ProviderActor;
use crate::failed::{self, Code};
use crate::outbox::Ticket;
use crate::status::Pause;

impl ProviderActor {
    /// Closes the queue and ends its tasks with `error`.
    pub(super) fn refuse_waiting(&mut self, error: &str) {
        for waiting in self.queue.close() {
            self.refuse(waiting.infer.ticket, error);
        }
    }

    pub(super) fn refuse_paused(&self, ticket: Ticket, pause: Pause) {
        failed::note(&ticket, &self.config.name, Code::Word(texts::PAUSED));
        self.outbox.finish(ticket, &pause.refusal(self.config.wire_name.as_str()));
    }

    /// Refuses a task because the queue, or the bytes of all queues, are full.
    pub(super) fn refuse_full(&mut self, ticket: Ticket, text: &str) {
        self.tasks_refused += 1;
        let body = openai::error_body(text, "rate_limit_error", Some("queue_full"));
        failed::note(&ticket, &self.config.name, Code::Word("queue_full"));
        let result = TaskResult::answer(429, &body).unwrap_or_else(|_| TaskResult::error(text));
        self.outbox.finish(ticket, &result);
    }

    pub(super) fn refuse(&self, ticket: Ticket, error: &str) {
        failed::note(&ticket, &self.config.name, Code::of_text(error));
        self.outbox.finish(ticket, &TaskResult::error(error));
    }
}
