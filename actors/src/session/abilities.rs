//! What the models of the providers can do, as their backends say.
//!
//! A backend is asked before its first registration and when it came back. One that did not answer, or whose model was not
//! loaded, is asked again after a while. What an owner says in the configuration stands above all of it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::{LocalBoxFuture, join_all};
use tokio::time::Instant;
use wire::Abilities;
use wire::register::ProviderEntry;

use super::{RetryCause, SessionActor};
use crate::backend::AbilityAnswer;
use crate::options::ProviderConfig;

/// Asks a provider's backend what its model can do.
pub(crate) type AbilityQuestion = Rc<dyn Fn(Arc<ProviderConfig>) -> LocalBoxFuture<'static, AbilityAnswer>>;

/// First and longest delay before a backend is asked again: a server loads its model in seconds or minutes, and a model that
/// nobody calls may never be loaded.
const FIRST_DELAY: Duration = Duration::from_secs(10);
const LONGEST_DELAY: Duration = Duration::from_mins(10);

/// Shortest interval of registrations because of changed abilities. A backend that comes and goes must not keep the hub busy.
const CHANGE_EVERY: Duration = Duration::from_mins(1);

/// The answers so far. Pure.
#[derive(Clone, Default)]
pub(super) struct Learned(Vec<Answer>);

/// The answer of one backend. Each configuration has its own `Arc`, so a reload asks anew.
#[derive(Clone)]
pub(super) struct Answer {
    config: Arc<ProviderConfig>,
    answer: AbilityAnswer,
}

impl Learned {
    /// The providers whose backends were never asked.
    pub(super) fn unasked(&self, providers: &[Arc<ProviderConfig>]) -> Vec<Arc<ProviderConfig>> {
        providers.iter().filter(|config| self.find(config).is_none()).map(Arc::clone).collect()
    }

    /// The providers whose backends may say more than they did.
    fn partial(&self) -> Vec<Arc<ProviderConfig>> {
        self.0.iter().filter(|known| known.answer.is_partial).map(|known| Arc::clone(&known.config)).collect()
    }

    /// Records answers. Returns whether anything that is published changed.
    pub(super) fn record(&mut self, answers: &[Answer]) -> bool {
        let mut has_changed = false;
        for Answer { config, answer } in answers {
            let before = self.abilities(config);
            match self.0.iter_mut().find(|known| Arc::ptr_eq(&known.config, config)) {
                // A model that was unloaded, or a server that is busy, has not changed.
                Some(known) if answer.is_partial => {
                    let abilities = answer.abilities.or(known.answer.abilities);
                    known.answer = AbilityAnswer { abilities, is_partial: true };
                }
                Some(known) => known.answer = *answer,
                None => self.0.push(Answer { config: Arc::clone(config), answer: *answer }),
            }
            has_changed |= self.abilities(config) != before;
        }
        has_changed
    }

    /// Marks the answer of a provider's backend as one that may have changed.
    pub(super) fn doubt(&mut self, config: &Arc<ProviderConfig>) {
        if let Some(known) = self.0.iter_mut().find(|known| Arc::ptr_eq(&known.config, config)) {
            known.answer.is_partial = true;
        }
    }

    /// Drops the answers of providers that are no longer published.
    pub(super) fn retain(&mut self, providers: &[Arc<ProviderConfig>]) {
        self.0.retain(|known| providers.iter().any(|config| Arc::ptr_eq(config, &known.config)));
    }

    /// Adds the abilities to the entries of `providers`.
    pub(super) fn complete(&self, entries: &mut [ProviderEntry], providers: &[Arc<ProviderConfig>]) {
        for (entry, config) in entries.iter_mut().zip(providers) {
            let Abilities { context_length, max_output_tokens, capabilities } = self.abilities(config);
            entry.context_length = context_length;
            entry.max_output_tokens = max_output_tokens;
            entry.capabilities = capabilities;
        }
    }

    fn abilities(&self, config: &Arc<ProviderConfig>) -> Abilities {
        config.abilities.or(self.find(config).map_or(Abilities::NONE, |known| known.answer.abilities))
    }

    fn find(&self, config: &Arc<ProviderConfig>) -> Option<&Answer> {
        self.0.iter().find(|known| Arc::ptr_eq(&known.config, config))
    }
}

/// Asks all backends at the same time.
pub(super) async fn ask(providers: Vec<Arc<ProviderConfig>>, question: &AbilityQuestion) -> Vec<Answer> {
    let asked = providers.into_iter().map(|config| {
        let answer = question(Arc::clone(&config));
        async move { Answer { config, answer: answer.await } }
    });
    join_all(asked).await
}

/// The questions that run or wait. Reset by a crash.
#[derive(Default)]
pub(super) struct Questions {
    is_asking: bool,
    /// Whether a timer runs that asks again.
    is_waiting: bool,
    /// The last delay.
    delay: Duration,
    /// Whether a timer runs that registers.
    is_due: bool,
    /// The last registration because of changed abilities.
    registered_at: Option<Instant>,
}

impl Questions {
    /// Starts the delays anew.
    pub(super) fn reset(&mut self) {
        self.delay = Duration::ZERO;
    }
}

impl SessionActor {
    /// Asks the backends that may say more, and registers if anything changed.
    pub(super) fn ask_abilities(&mut self, ctx: &mut Context<Self>) {
        let partial = self.learned.partial();
        if partial.is_empty() || std::mem::replace(&mut self.state.questions.is_asking, true) {
            return;
        }
        let question = Rc::clone(&self.config.ask_abilities);
        let asking = async move { ask(partial, &question).await };
        ctx.spawn(asking.into_actor(self).map(|answers, this, ctx| {
            this.state.questions.is_asking = false;
            let answers: Vec<_> =
                answers.into_iter().filter(|answer| this.learned.find(&answer.config).is_some()).collect();
            if this.learned.record(&answers) {
                this.register_abilities(ctx);
            }
            this.ask_again_later(ctx);
        }));
    }

    pub(super) fn ask_again_later(&mut self, ctx: &mut Context<Self>) {
        let questions = &mut self.state.questions;
        if self.learned.partial().is_empty() || std::mem::replace(&mut questions.is_waiting, true) {
            return;
        }
        questions.delay = (questions.delay * 2).clamp(FIRST_DELAY, LONGEST_DELAY);
        ctx.run_later(questions.delay, |this, ctx| {
            this.state.questions.is_waiting = false;
            this.ask_abilities(ctx);
        });
    }

    /// Registers with changed abilities, unless a registration is to come anyway.
    fn register_abilities(&mut self, ctx: &mut Context<Self>) {
        if self.state.running {
            self.state.again = true;
        }
        let pending = self.state.pending.map(|pending| pending.cause);
        if !self.accepted_once || self.state.running || pending.is_some_and(|cause| cause != RetryCause::Link)
        {
            return;
        }
        let since = self.state.questions.registered_at.map(|at| at.elapsed());
        // A link that is opened again comes without a registration, and a hub that restarts is left alone.
        let since = pending.map(|_| Duration::ZERO).or(since);
        match since.and_then(|since| CHANGE_EVERY.checked_sub(since)) {
            Some(wait) if !wait.is_zero() => {
                if !std::mem::replace(&mut self.state.questions.is_due, true) {
                    ctx.run_later(wait, |this, ctx| {
                        this.state.questions.is_due = false;
                        this.register_abilities(ctx);
                    });
                }
            }
            _ => {
                self.state.questions.registered_at = Some(Instant::now());
                self.register(ctx);
            }
        }
    }
}
