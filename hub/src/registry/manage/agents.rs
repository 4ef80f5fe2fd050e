//! Public agents: create, update, delete. A member manages its own, an admin all.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use wire::names::PATTERN;
use wire::row::{Kind, Status, Visibility};

use super::{ManageError, check_same_name, name_in_use};
use crate::clock::Now;
use crate::model::{Agent, Caller, Role};
use crate::registry::Registry;
use crate::registry::register::{MAX_PROMPT, MAX_PROSE, Malformed, name, object, params, prose, text};
use crate::store::Change;

/// A public agent in a request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// The agent's name; optional if the path has it.
    #[schemars(regex(pattern = PATTERN))]
    pub name: Option<String>,
    /// Name of the LLM or pool that it uses.
    #[schemars(length(min = 1, max = 512))]
    pub llm_name: String,
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Put before the caller's messages.
    #[schemars(length(max = 65536))]
    pub system_prompt: Option<String>,
    #[schemars(length(max = 4096))]
    pub project: Option<String>,
    /// Request parameters that a caller may override: a JSON object.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub default_params: Option<Box<RawValue>>,
    /// Free data: a JSON object.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub extras: Option<Box<RawValue>>,
    /// By default an admin's agent is public, a member's private. An update without it keeps the old one.
    pub visibility: Option<Visibility>,
}

impl Registry {
    /// Creates a public agent.
    pub fn create_agent(
        &mut self,
        caller: &Caller,
        spec: AgentSpec,
        id: String,
        now: Now,
    ) -> Result<(Agent, Vec<Change>), ManageError> {
        let name = spec
            .name
            .clone()
            .ok_or_else(|| ManageError::Invalid("name: a new agent needs one".to_owned().into()))?;
        check_spec(&name, &spec)?;
        if let Some(old) = self.agents.get(&name).map(|entry| &entry.agent) {
            let seen = caller.sees(old.visibility, &old.owner);
            return Err(name_in_use(seen, "Agent", &name));
        }
        self.check_name_owner(caller, &name).map_err(ManageError::Conflict)?;
        if self.usage_of(&caller.user).agents >= self.limits.rows {
            return Err(ManageError::TooMany(self.limits.rows));
        }
        let default = if caller.role == Role::Admin { Visibility::Public } else { Visibility::Private };
        let agent = Agent {
            id,
            name,
            llm_name: spec.llm_name,
            description: spec.description,
            system_prompt: spec.system_prompt,
            project: spec.project,
            default_params: spec.default_params,
            extras: spec.extras,
            kind: Kind::Public,
            status: Status::Active,
            last_heartbeat_at: None,
            inactive_since: None,
            visibility: spec.visibility.unwrap_or(default),
            owner: caller.user.clone(),
            session: None,
            registered: true,
            created_at: now.wall,
            updated_at: now.wall,
        };
        self.store_agent(caller, agent, now)
    }

    /// Updates a public agent.
    pub fn update_agent(
        &mut self,
        caller: &Caller,
        name: &str,
        spec: AgentSpec,
        now: Now,
    ) -> Result<(Agent, Vec<Change>), ManageError> {
        let old = self.own_agent(caller, name)?.clone();
        check_same_name(name, spec.name.as_deref())?;
        check_spec(name, &spec)?;
        if old.kind == Kind::Virtual {
            return Err(ManageError::Conflict(format!(
                "Agent {name} is published by a session: change it there"
            )));
        }
        let agent = Agent {
            llm_name: spec.llm_name,
            description: spec.description,
            system_prompt: spec.system_prompt,
            project: spec.project,
            default_params: spec.default_params,
            extras: spec.extras,
            visibility: spec.visibility.unwrap_or(old.visibility),
            updated_at: now.wall,
            ..old
        };
        // An admin saves another user's agent for that user, by what that user sees.
        let owner = Caller::member(&agent.owner);
        let maker = if agent.owner == caller.user { caller } else { &owner };
        self.store_agent(maker, agent, now)
    }

    /// Deletes a public agent, an inactive virtual one, or (an admin) another user's published one.
    pub fn delete_agent(
        &mut self,
        caller: &Caller,
        name: &str,
        now: Now,
    ) -> Result<Vec<Change>, ManageError> {
        let agent = self.own_agent(caller, name)?;
        Self::check_deletable(caller, (agent.kind, agent.status, &agent.owner), &format!("Agent {name}"))?;
        self.report_deleted(agent.session.clone().filter(|_| agent.registered), name);
        let changes = self.remove_agent(name, now).into_iter().collect();
        self.names.change(name, |record| record.pinned = None);
        Ok(self.with_names(changes))
    }

    /// Stores an agent and pins it to what `maker` sees by its LLM's name.
    fn store_agent(
        &mut self,
        maker: &Caller,
        agent: Agent,
        now: Now,
    ) -> Result<(Agent, Vec<Change>), ManageError> {
        let old = self.bytes_of_agent(&agent.owner, &agent.name);
        self.check_bytes(&agent.owner, old, agent.bytes())?;
        self.put_agent(agent.clone(), now);
        self.pin_agent(maker, &agent.name, &agent.llm_name, true);
        let changes = self.with_names(vec![Change::PutAgent(Box::new(agent.clone()))]);
        Ok((agent, changes))
    }

    /// The agent `name`, if `caller` may change it.
    fn own_agent(&self, caller: &Caller, name: &str) -> Result<&Agent, ManageError> {
        let agent = self.agent(caller, name).ok_or(ManageError::Unknown)?;
        if caller.role == Role::Admin || agent.owner == caller.user {
            Ok(agent)
        } else {
            Err(ManageError::Forbidden)
        }
    }
}

fn check_spec(agent: &str, spec: &AgentSpec) -> Result<(), ManageError> {
    let check = || -> Result<(), Malformed> {
        name("name", agent)?;
        text("llmName", &spec.llm_name)?;
        prose("description", MAX_PROSE, spec.description.as_deref())?;
        prose("systemPrompt", MAX_PROMPT, spec.system_prompt.as_deref())?;
        prose("project", MAX_PROSE, spec.project.as_deref())?;
        params("defaultParams", spec.default_params.as_deref())?;
        object("extras", spec.extras.as_deref())
    };
    check().map_err(ManageError::Invalid)
}
