//! Whether a name is free for a session, and what one who may not have it is told.

use wire::register::{AgentEntry as AgentSpec, ProviderEntry};
use wire::row::{Kind, Status};
use wire::texts;

use crate::clock::Now;
use crate::model::Caller;
use crate::registry::{AgentEntry, ControlChannel, LlmEntry, Registry};

impl Registry {
    pub(super) fn may_publish(
        &self,
        caller: &Caller,
        session: &str,
        spec: &ProviderEntry,
        now: Now,
    ) -> Result<(), String> {
        let Some(LlmEntry { llm, .. }) = self.llms.get(&spec.name).map(Box::as_ref) else { return Ok(()) };
        let free = llm.kind == Kind::Virtual
            && llm.owner == caller.user
            && self.may_take(session, llm.session.as_deref(), llm.status, now);
        if free {
            Ok(())
        } else if !caller.sees(llm.visibility, &llm.owner) {
            Err(texts::name_taken(&spec.name))
        } else if llm.kind == Kind::Public {
            Err(texts::over_public(&spec.name))
        } else {
            Err(texts::published_elsewhere(&spec.name))
        }
    }

    pub(super) fn may_publish_agent(
        &self,
        caller: &Caller,
        session: &str,
        spec: &AgentSpec,
        now: Now,
    ) -> Result<(), String> {
        let Some(AgentEntry { agent, .. }) = self.agents.get(&spec.name) else { return Ok(()) };
        let free = agent.kind == Kind::Virtual
            && agent.owner == caller.user
            && self.may_take(session, agent.session.as_deref(), agent.status, now);
        if free {
            Ok(())
        } else if !caller.sees(agent.visibility, &agent.owner) {
            Err(texts::name_taken(&spec.name))
        } else if agent.kind == Kind::Public {
            Err(format!("Cannot publish over public agent: {}", spec.name))
        } else {
            Err(format!("Agent {} is published by another session", spec.name))
        }
    }

    /// Whether `session` may have what `holder`, a session of the same user, has: its own, or what a dead one left.
    fn may_take(&self, session: &str, holder: Option<&str>, status: Status, now: Now) -> bool {
        let Some(holder) = holder else { return true };
        if holder == session {
            return true;
        }
        let Some(other) = self.sessions.get(holder) else { return status == Status::Inactive };
        let dead = match other.channel {
            ControlChannel::Open { .. } => false,
            ControlChannel::Closed { .. } => true,
            ControlChannel::None => now.mono.saturating_sub(other.last_heartbeat) > self.heartbeat_timeout,
        };
        status == Status::Inactive && dead
    }
}
