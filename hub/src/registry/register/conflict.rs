//! Adoption: whether a register call may take a name that an existing row or agent has (SPEC.md section 3.6).

use wire::row::{Kind, Status};
use wire::texts;

use super::Registering;
use crate::registry::Registry;
use crate::registry::session::ControlChannel;

impl Registry {
    /// Checks that the row `name` is new, the session's own, or adoptable.
    pub(super) fn check_llm_free(&self, call: &Registering<'_>, name: &str) -> Result<(), String> {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return Ok(()) };
        let adoptable = llm.kind == Kind::Virtual
            && llm.owner == call.caller.user
            && self.may_adopt(call, llm.session.as_deref(), llm.status);
        if adoptable {
            Ok(())
        } else if !call.caller.sees(llm.visibility, &llm.owner) {
            Err(texts::name_taken(name))
        } else if llm.kind == Kind::Public {
            Err(texts::over_public(name))
        } else {
            Err(texts::published_elsewhere(name))
        }
    }

    /// Checks that the agent `name` is new, the session's own, or adoptable.
    pub(super) fn check_agent_free(&self, call: &Registering<'_>, name: &str) -> Result<(), String> {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return Ok(()) };
        let adoptable = agent.kind == Kind::Virtual
            && agent.owner == call.caller.user
            && self.may_adopt(call, agent.session.as_deref(), agent.status);
        if adoptable {
            Ok(())
        } else if !call.caller.sees(agent.visibility, &agent.owner) {
            Err(texts::name_taken(name))
        } else if agent.kind == Kind::Public {
            Err(format!("Cannot publish over public agent: {name}"))
        } else {
            Err(format!("Agent {name} is published by another session"))
        }
    }

    /// Whether the call's session may adopt an entry of `holder`, a session of the same user: its own, or an inactive
    /// entry of a session whose channel closed or never opened within the heartbeat timeout.
    fn may_adopt(&self, call: &Registering<'_>, holder: Option<&str>, status: Status) -> bool {
        let Some(holder) = holder.filter(|holder| *holder != call.session) else { return true };
        let Some(other) = self.sessions.get(holder) else { return status == Status::Inactive };
        let dead = match other.channel {
            ControlChannel::Open { .. } => false,
            ControlChannel::Closed { .. } => true,
            ControlChannel::None => {
                call.now.mono.saturating_sub(other.last_heartbeat) > self.heartbeat_timeout
            }
        };
        status == Status::Inactive && dead
    }
}
