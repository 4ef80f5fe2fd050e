//! Visibility (SPEC.md section 5): every list, look-up and choice goes through here, so that what a caller gets is a
//! function of the rows that this caller may see. The one rule who sees what is [`Caller::sees`].

use schemars::JsonSchema;
use serde::Serialize;
use wire::row::{AgentAdds, AgentRow, LlmRow};

use super::Registry;
use super::session::Session;
use crate::model::{Agent, Caller, Llm, Role};
use crate::telemetry::{CacheView, RowCache};

/// Most characters of a description in [`LiveLlm`].
const LIVE_DESCRIPTION: usize = 256;

/// A row and its load.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveLlm {
    /// The row as lists have it.
    #[serde(flatten)]
    pub row: LlmRow,
    /// Tasks that run or wait there: this hub's, or the reported number if that is greater.
    pub busy: u32,
    /// Tasks that may run there at once, if reported.
    pub room: Option<u32>,
    #[serde(flatten)]
    pub cache: CacheView,
}

/// A row and its prompt cache.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DetailedLlm {
    #[serde(flatten)]
    pub row: LlmRow,
    #[serde(flatten)]
    pub cache: CacheView,
}

impl Registry {
    /// The row `name`, if `caller` sees it.
    pub fn llm(&self, caller: &Caller, name: &str) -> Option<&Llm> {
        let llm = &self.llms.get(name)?.llm;
        (caller.sees(llm.visibility, &llm.owner) && caller.models.has(name)).then_some(llm)
    }

    /// The agent `name`, if `caller` sees it.
    pub fn agent(&self, caller: &Caller, name: &str) -> Option<&Agent> {
        let agent = &self.agents.get(name)?.agent;
        caller.sees_agent(agent).then_some(agent)
    }

    /// The agent as `caller` reads it.
    pub fn agent_row(&self, caller: &Caller, agent: &Agent) -> AgentRow {
        AgentRow { adds: agent.row().adds, ..self.agent_list_row(caller, agent) }
    }

    /// The agent as lists have it. Its LLM's name is hidden from a caller who may not know of the LLM.
    pub fn agent_list_row(&self, caller: &Caller, agent: &Agent) -> AgentRow {
        let own = caller.role == Role::Admin || caller.user == agent.owner;
        let known = own || self.target(caller, &agent.llm_name).is_some();
        let row = agent.list_row();
        let heartbeat = self.session_heartbeat(agent.session.as_ref(), agent.registered);
        AgentRow {
            llm_name: row.llm_name.filter(|_| known),
            last_heartbeat_at: heartbeat.or(agent.last_heartbeat_at),
            ..row
        }
    }

    /// The row as `caller` reads it. Only an admin reads the URL of a public row.
    pub fn llm_row(&self, caller: &Caller, llm: &Llm) -> LlmRow {
        let upstream = llm.upstream.as_ref().filter(|_| caller.role == Role::Admin);
        LlmRow { url: upstream.map(|upstream| upstream.url.clone()), ..self.list_row(caller, llm) }
    }

    /// The row as [`Registry::llm_row`] has it, and its prompt cache.
    pub fn detailed_llm(&self, caller: &Caller, llm: &Llm) -> DetailedLlm {
        DetailedLlm { row: self.llm_row(caller, llm), cache: self.cache_view(caller, llm) }
    }

    fn cache_view(&self, caller: &Caller, llm: &Llm) -> CacheView {
        let tokens = self.llms.get(&llm.name).map(|entry| entry.cache.read()).unwrap_or_default();
        CacheView::of(tokens, caller.reads_counts_of(llm))
    }

    /// Appends the prompt caches of `most` rows behind `after` that `caller` sees. Returns the name of the last one, if
    /// more may follow.
    pub(crate) fn row_caches(
        &self,
        caller: &Caller,
        after: Option<&str>,
        most: usize,
        rows: &mut Vec<RowCache>,
    ) -> Option<String> {
        let (mut seen, mut last) = (0, None);
        for llm in self.llms_after(caller, after).take(most) {
            seen += 1;
            last = Some(&llm.name);
            let Some(entry) = self.llms.get(&llm.name) else { continue };
            let tokens = entry.cache.read();
            if tokens.prompt > 0 {
                let pool = llm.pool_name.clone().filter(|_| entry.member);
                let with_counts = caller.reads_counts_of(llm);
                rows.push(RowCache { llm: llm.name.clone(), pool, tokens, with_counts });
            }
        }
        last.filter(|_| seen == most).cloned()
    }

    fn list_row(&self, caller: &Caller, llm: &Llm) -> LlmRow {
        let row = LlmRow {
            id: llm.id.clone(),
            name: llm.name.clone(),
            provider_type: llm.provider_type.clone(),
            model: llm.model.clone(),
            tier: llm.tier,
            description: llm.description.clone(),
            kind: llm.kind,
            status: llm.status,
            last_heartbeat_at: self.last_heartbeat(llm),
            inactive_since: llm.inactive_since,
            pool_name: llm.pool_name.clone(),
            waits_for: None,
            visibility: llm.visibility,
            owner_id: Some(llm.owner.clone()),
            provider_session_id: llm.session.clone(),
            created_at: llm.created_at,
            updated_at: llm.updated_at,
            allow_remote_urls: llm.allow_remote_urls,
            context_length: llm.abilities.context_length,
            max_output_tokens: llm.abilities.max_output_tokens,
            capabilities: llm.abilities.capabilities,
            url: None,
        };
        self.with_pool(caller, llm, row)
    }

    /// The row `name` with its load, if `caller` sees it. Its description is cut to [`LIVE_DESCRIPTION`], since watchers get
    /// the row again with each change.
    pub fn live_llm(&self, caller: &Caller, name: &str) -> Option<LiveLlm> {
        let llm = self.llm(caller, name)?;
        let entry = self.llms.get(name)?;
        let row = self.list_row(caller, llm);
        let description = row.description.map(|text| match text.char_indices().nth(LIVE_DESCRIPTION) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        });
        Some(LiveLlm {
            row: LlmRow { description, ..row },
            busy: entry.load(),
            room: entry.capacity(),
            cache: self.cache_view(caller, llm),
        })
    }

    /// Whether every caller may see something of this name.
    pub fn is_public_name(&self, name: &str) -> bool {
        self.target(&anyone(), name).is_some() || self.agent(&anyone(), name).is_some()
    }

    /// Whether every caller may see a row or an agent of the session.
    pub fn has_public_entries(&self, session: &str) -> bool {
        self.sessions.get(session).is_some_and(|session| self.is_session_public(session))
    }

    /// Number of sessions with an open channel and a row or an agent that every caller may see.
    pub fn open_public_sessions(&self) -> usize {
        self.sessions.values().filter(|session| session.is_open() && self.is_session_public(session)).count()
    }

    fn is_session_public(&self, session: &Session) -> bool {
        session.llms.iter().any(|name| self.llm(&anyone(), name).is_some())
            || session.agents.iter().any(|name| self.agent(&anyone(), name).is_some())
    }
}

impl Caller {
    /// Whether the caller sees the agent. One whose models are limited sees no agent of its own for an LLM that it may not use: it
    /// could make one for each.
    pub(super) fn sees_agent(&self, agent: &Agent) -> bool {
        self.sees(agent.visibility, &agent.owner)
            && self.models.has(&agent.name)
            && (self.user != agent.owner || self.models.has(&agent.llm_name))
    }

    /// Whether the caller may read counts of single calls of the row: its owner and admins.
    fn reads_counts_of(&self, llm: &Llm) -> bool {
        self.role == Role::Admin || self.user == llm.owner
    }
}

/// A member who owns nothing: sees what every caller does.
fn anyone() -> Caller {
    Caller::member("")
}

impl Agent {
    /// The agent as its owner and admins read it.
    pub fn row(&self) -> AgentRow {
        let adds = AgentAdds {
            system_prompt: self.system_prompt.clone(),
            default_params: self.default_params.clone(),
            extras: self.extras.clone(),
        };
        AgentRow { adds: Some(adds), ..self.list_row() }
    }

    /// The agent without the long texts that only its own address has.
    fn list_row(&self) -> AgentRow {
        AgentRow {
            id: self.id.clone(),
            name: self.name.clone(),
            llm_name: Some(self.llm_name.clone()),
            description: self.description.clone(),
            project: self.project.clone(),
            adds: None,
            kind: self.kind,
            status: self.status,
            visibility: self.visibility,
            owner_id: Some(self.owner.clone()),
            provider_session_id: self.session.clone(),
            last_heartbeat_at: self.last_heartbeat_at,
            inactive_since: self.inactive_since,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
