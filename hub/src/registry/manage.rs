//! Rows and agents that people make, not publishers: public LLMs and public agents (SPEC.md section 5).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};
use wire::texts;

use super::register::{MAX_PROMPT, MAX_PROSE, name, object, params, prose, text};
use super::{ControlChannel, Registry, usage};
use crate::clock::Now;
use crate::model::{Agent, Caller, Llm, Role, Upstream};
use crate::store::Change;

/// A public LLM as it is asked for. What `GET` shows is taken back; what only the hub decides is ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmSpec {
    /// Its name; where the path has it, it may be left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Which API the upstream speaks.
    #[serde(rename = "type")]
    pub provider_type: String,
    /// The model that is asked of the upstream.
    pub model: String,
    /// The upstream's base URL. Left out in an update, it stays.
    #[serde(default)]
    pub url: Option<String>,
    /// The upstream's key. Left out in an update, it stays; empty, it goes.
    #[serde(default)]
    pub api_key: Option<String>,
    /// Hint for choosing.
    #[serde(default)]
    pub tier: Option<Tier>,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// The pool that it joins.
    #[serde(default)]
    pub pool_name: Option<String>,
    /// Who may see it. Everybody, if a new row does not say.
    #[serde(default)]
    pub visibility: Option<Visibility>,
    /// Whether those who are not its owner may have the upstream fetch addresses, run tools and keep answers. Left out
    /// in an update, it stays.
    #[serde(default)]
    pub allow_remote_urls: Option<bool>,
}

/// A public agent as it is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// Its name; where the path has it, it may be left out.
    #[serde(default)]
    pub name: Option<String>,
    /// The LLM that it uses.
    pub llm_name: String,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Put before the caller's messages.
    #[serde(default)]
    pub system_prompt: Option<String>,
    /// Free text.
    #[serde(default)]
    pub project: Option<String>,
    /// Request parameters that the caller did not give: a JSON object.
    #[serde(default)]
    pub default_params: Option<Box<RawValue>>,
    /// Free data: a JSON object.
    #[serde(default)]
    pub extras: Option<Box<RawValue>>,
    /// Who may see it. An admin's new agent is for everybody, a member's for itself, if it does not say.
    #[serde(default)]
    pub visibility: Option<Visibility>,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManageError {
    /// Not what the route takes: 400.
    Invalid(String),
    /// For admins, or for the owner: 403.
    Forbidden,
    /// Unknown, or not visible to the caller: 404.
    Unknown,
    /// The same of an LLM that the path names beside a pool.
    UnknownRow(String),
    /// The name or the pool is somebody else's, or a session has it: 409.
    Conflict(String),
    /// The caller has so many already: 429.
    TooMany(usize),
    /// The caller's rows and agents are so many bytes already: 429.
    TooLarge(usize),
}

/// A publisher's session, as its owner and admins read it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    /// The sticky id.
    pub id: String,
    /// Whose it is.
    pub owner_id: String,
    /// `connected`, `draining` or `away`.
    pub status: &'static str,
    /// What was negotiated on its channel.
    pub features: Vec<&'static str>,
    /// The names of its rows.
    pub llms: Vec<String>,
    /// The names of its agents.
    pub agents: Vec<String>,
    /// Last sign of life.
    pub last_heartbeat_at: Timestamp,
    /// When it first registered.
    pub created_at: Timestamp,
}

/// A row after an update, and a warning of what was not kept.
type Updated = (Llm, Option<&'static str>);

impl Registry {
    /// Makes a public row.
    pub fn create_llm(
        &mut self,
        caller: &Caller,
        spec: LlmSpec,
        id: String,
        now: Now,
    ) -> Result<(Llm, Vec<Change>), ManageError> {
        admins_only(caller)?;
        let name =
            spec.name.clone().ok_or_else(|| ManageError::Invalid("name: a new LLM needs one".into()))?;
        check_llm(&name, &spec)?;
        if let Some(held) = self.llms.get(&name).map(|entry| &entry.llm) {
            let seen = caller.sees(held.visibility, &held.owner);
            return Err(taken(seen, "LLM", &name));
        }
        self.check_name_owner(caller, &name).map_err(ManageError::Conflict)?;
        self.check_pool_name(caller, &name, spec.pool_name.as_deref()).map_err(ManageError::Conflict)?;
        self.check_pool_limit(&caller.user, &name, spec.pool_name.as_deref())?;
        let Some(url) = spec.url else {
            return Err(ManageError::Invalid(
                "url: where the LLM is reached, with http:// or https://".into(),
            ));
        };
        let llm = Llm {
            id,
            name,
            provider_type: spec.provider_type,
            model: spec.model,
            tier: spec.tier,
            description: spec.description,
            kind: Kind::Public,
            status: Status::Active,
            declared: Status::Active,
            last_heartbeat_at: None,
            inactive_since: None,
            pool_name: spec.pool_name,
            visibility: spec.visibility.unwrap_or(Visibility::Public),
            owner: caller.user.clone(),
            session: None,
            registered: true,
            created_at: now.wall,
            updated_at: now.wall,
            upstream: Some(Upstream { url, api_key: spec.api_key.filter(|key| !key.is_empty()) }),
            timeout_seconds: None,
            allow_remote_urls: spec.allow_remote_urls.unwrap_or(false),
        };
        self.may_have_llm(&llm)?;
        self.put_llm(llm.clone(), now);
        let changes = self.with_names(vec![Change::PutLlm(Box::new(llm.clone()))]);
        Ok((llm, changes))
    }

    /// Changes a public row to what `spec` says.
    pub fn update_llm(
        &mut self,
        caller: &Caller,
        name: &str,
        spec: LlmSpec,
        now: Now,
    ) -> Result<(Updated, Vec<Change>), ManageError> {
        let held = self.llm(caller, name).ok_or(ManageError::Unknown)?.clone();
        admins_only(caller)?;
        same_name(name, spec.name.as_deref())?;
        check_llm(name, &spec)?;
        let Some(upstream) = held.upstream else {
            return Err(ManageError::Conflict(texts::published_elsewhere(name)));
        };
        let owner = Caller { user: held.owner.clone(), ..caller.clone() };
        self.check_pool_name(&owner, name, spec.pool_name.as_deref()).map_err(ManageError::Conflict)?;
        self.check_pool_limit(&owner.user, name, spec.pool_name.as_deref())?;
        let had_key = upstream.api_key.is_some();
        let url = spec.url.unwrap_or_else(|| upstream.url.clone());
        // Whoever may write an address must not read the key by it.
        let kept = upstream.api_key.filter(|_| is_same_server(&upstream.url, &url));
        let dropped = spec.api_key.is_none() && kept.is_none() && had_key;
        let api_key = spec.api_key.or(kept).filter(|key| !key.is_empty());
        let llm = Llm {
            provider_type: spec.provider_type,
            model: spec.model,
            tier: spec.tier,
            description: spec.description,
            pool_name: spec.pool_name,
            visibility: spec.visibility.unwrap_or(held.visibility),
            updated_at: now.wall,
            upstream: Some(Upstream { url, api_key }),
            allow_remote_urls: spec.allow_remote_urls.unwrap_or(held.allow_remote_urls),
            ..held
        };
        self.may_have_llm(&llm)?;
        self.put_llm(llm.clone(), now);
        let changes = self.with_names(vec![Change::PutLlm(Box::new(llm.clone()))]);
        Ok(((llm, dropped.then_some(KEY_DROPPED)), changes))
    }

    /// Deletes a public row, or a virtual one that nobody publishes now; another user's also while it is published.
    pub fn delete_llm(&mut self, caller: &Caller, name: &str, now: Now) -> Result<Vec<Change>, ManageError> {
        let llm = self.llm(caller, name).ok_or(ManageError::Unknown)?;
        admins_only(caller)?;
        if llm.kind == Kind::Virtual {
            if llm.status != Status::Inactive && llm.owner == caller.user {
                return Err(ManageError::Conflict(format!(
                    "LLM {name} is published now: stop its publisher first"
                )));
            }
            // Also one that is away for a moment believes that it publishes it.
            self.report_deleted(llm.session.clone().filter(|_| llm.registered), name);
        }
        let changes = self.remove_llm(name, now).into_iter().collect();
        Ok(self.with_names(changes))
    }

    /// Makes a public agent.
    pub fn create_agent(
        &mut self,
        caller: &Caller,
        spec: AgentSpec,
        id: String,
        now: Now,
    ) -> Result<(Agent, Vec<Change>), ManageError> {
        let name =
            spec.name.clone().ok_or_else(|| ManageError::Invalid("name: a new agent needs one".into()))?;
        check_agent(&name, &spec)?;
        if let Some(held) = self.agents.get(&name).map(|entry| &entry.agent) {
            let seen = caller.sees(held.visibility, &held.owner);
            return Err(taken(seen, "Agent", &name));
        }
        self.check_name_owner(caller, &name).map_err(ManageError::Conflict)?;
        if self.agents_of(caller) >= self.limits.rows {
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
            default_params: not_null(spec.default_params),
            extras: not_null(spec.extras),
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
        self.may_have_agent(&agent)?;
        self.put_agent(agent.clone(), now);
        self.pin_agent(caller, &agent.name, &agent.llm_name, true);
        let changes = self.with_names(vec![Change::PutAgent(Box::new(agent.clone()))]);
        Ok((agent, changes))
    }

    /// Changes a public agent to what `spec` says.
    pub fn update_agent(
        &mut self,
        caller: &Caller,
        name: &str,
        spec: AgentSpec,
        now: Now,
    ) -> Result<(Agent, Vec<Change>), ManageError> {
        let held = self.own_agent(caller, name)?.clone();
        same_name(name, spec.name.as_deref())?;
        check_agent(name, &spec)?;
        if held.kind == Kind::Virtual {
            return Err(ManageError::Conflict(format!(
                "Agent {name} is published by a session: change it there"
            )));
        }
        let agent = Agent {
            llm_name: spec.llm_name,
            description: spec.description,
            system_prompt: spec.system_prompt,
            project: spec.project,
            default_params: not_null(spec.default_params),
            extras: not_null(spec.extras),
            visibility: spec.visibility.unwrap_or(held.visibility),
            updated_at: now.wall,
            ..held
        };
        self.may_have_agent(&agent)?;
        self.put_agent(agent.clone(), now);
        // An admin who saves another user's agent does so for that user.
        let maker = if agent.owner == caller.user { caller } else { &Caller::member(&agent.owner) };
        self.pin_agent(maker, &agent.name, &agent.llm_name, true);
        let changes = self.with_names(vec![Change::PutAgent(Box::new(agent.clone()))]);
        Ok((agent, changes))
    }

    /// Deletes a public agent, or a virtual one that nobody publishes now; an admin another user's also while it is.
    pub fn delete_agent(
        &mut self,
        caller: &Caller,
        name: &str,
        now: Now,
    ) -> Result<Vec<Change>, ManageError> {
        let agent = self.own_agent(caller, name)?;
        if agent.kind == Kind::Virtual {
            if agent.status != Status::Inactive && agent.owner == caller.user {
                return Err(ManageError::Conflict(format!(
                    "Agent {name} is published now: stop its publisher first"
                )));
            }
            self.report_deleted(agent.session.clone().filter(|_| agent.registered), name);
        }
        let changes = self.remove_agent(name, now).into_iter().collect();
        self.names.change(name, |record| record.pinned = None);
        Ok(self.with_names(changes))
    }

    /// `changes`, and what became of names with them.
    fn with_names(&mut self, mut changes: Vec<Change>) -> Vec<Change> {
        changes.append(&mut self.names.drain_changes());
        changes
    }

    /// The session is told by its next heartbeat that an admin has deleted what it publishes.
    pub(super) fn report_deleted(&mut self, session: Option<String>, name: &str) {
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            session.deleted.insert(name.to_owned());
        }
    }

    /// Whether `pool` has room for one more row of `user`'s, if the row `name` is not in it.
    fn check_pool_limit(&self, user: &str, name: &str, pool: Option<&str>) -> Result<(), ManageError> {
        let Some(pool) = pool else { return Ok(()) };
        let new = usize::from(!self.is_in_pool(name, pool));
        self.check_pool_rows(user, pool, new).map_err(ManageError::Conflict)
    }

    /// Whether the row's owner has room for it, in place of what it has by this name.
    fn may_have_llm(&self, llm: &Llm) -> Result<(), ManageError> {
        let old = self.bytes_of_llm(&llm.owner, &llm.name);
        let room = self.has_bytes(&llm.owner, old, usage::llm_bytes(llm));
        if room { Ok(()) } else { Err(ManageError::TooLarge(self.limits.row_bytes)) }
    }

    /// The same for an agent.
    fn may_have_agent(&self, agent: &Agent) -> Result<(), ManageError> {
        let old = self.bytes_of_agent(&agent.owner, &agent.name);
        let room = self.has_bytes(&agent.owner, old, usage::agent_bytes(agent));
        if room { Ok(()) } else { Err(ManageError::TooLarge(self.limits.row_bytes)) }
    }

    /// An agent that `caller` may change.
    fn own_agent(&self, caller: &Caller, name: &str) -> Result<&Agent, ManageError> {
        let agent = self.agent(caller, name).ok_or(ManageError::Unknown)?;
        if caller.role == Role::Admin || agent.owner == caller.user {
            Ok(agent)
        } else {
            Err(ManageError::Forbidden)
        }
    }

    /// A session, if `caller` may see it: its own, an admin every one.
    pub(super) fn session_view(&self, caller: &Caller, id: &str) -> Option<SessionView> {
        let own = |owner: &str| caller.role == Role::Admin || caller.user == owner;
        let session = self.sessions.get(id).filter(|session| own(&session.record.owner))?;
        Some(SessionView {
            id: session.record.id.clone(),
            owner_id: session.record.owner.clone(),
            status: match session.channel {
                ControlChannel::Open { .. } if session.draining => "draining",
                ControlChannel::Open { .. } if !session.silent => "connected",
                _ => "away",
            },
            features: session.features().names().collect(),
            llms: session.llms.iter().cloned().collect(),
            agents: session.agents.iter().cloned().collect(),
            last_heartbeat_at: session.record.last_heartbeat_at,
            created_at: session.record.created_at,
        })
    }
}

fn admins_only(caller: &Caller) -> Result<(), ManageError> {
    if caller.role == Role::Admin { Ok(()) } else { Err(ManageError::Forbidden) }
}

fn taken(seen: bool, what: &str, name: &str) -> ManageError {
    ManageError::Conflict(if seen {
        format!("{what} {name} already exists")
    } else {
        texts::name_taken(name)
    })
}

fn same_name(path: &str, body: Option<&str>) -> Result<(), ManageError> {
    match body {
        Some(body) if body != path => {
            Err(ManageError::Invalid("name: it cannot be changed; delete and create it".into()))
        }
        _ => Ok(()),
    }
}

fn not_null(json: Option<Box<RawValue>>) -> Option<Box<RawValue>> {
    json.filter(|json| json.get() != "null")
}

fn check_llm(llm: &str, spec: &LlmSpec) -> Result<(), ManageError> {
    let check = || {
        name("name", llm)?;
        text("type", &spec.provider_type)?;
        text("model", &spec.model)?;
        if let Some(pool) = &spec.pool_name {
            name("poolName", pool)?;
        }
        prose("description", MAX_PROSE, spec.description.as_deref())?;
        if let Some(key) = &spec.api_key
            && !key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("apiKey: visible ASCII characters only".to_owned());
        }
        spec.url.as_deref().map_or(Ok(()), check_url)
    };
    check().map_err(ManageError::Invalid)
}

/// Told after an update that takes the upstream's key away.
const KEY_DROPPED: &str =
    "the url names another server: its key was not kept, send apiKey again if it needs one";

/// Whether a key for one URL may be sent to the other: the same scheme, host and port.
fn is_same_server(one: &str, other: &str) -> bool {
    let server = |url: &str| {
        let uri: actix_web::http::Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        Some((scheme, uri.host()?.to_ascii_lowercase(), port))
    };
    server(one).is_some_and(|one| server(other) == Some(one))
}

/// A URL that a key can be sent to: of a host, with nothing secret in it, since rows show it.
fn check_url(url: &str) -> Result<(), String> {
    text("url", url)?;
    let parsed: Result<actix_web::http::Uri, _> = url.parse();
    let good = parsed.is_ok_and(|uri| {
        let http = matches!(uri.scheme_str(), Some("http" | "https"));
        http && uri.query().is_none() && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
    });
    if good { Ok(()) } else { Err("url: http:// or https://, a host, and a path; no user, no query".into()) }
}

fn check_agent(agent: &str, spec: &AgentSpec) -> Result<(), ManageError> {
    let set = |json: &&RawValue| json.get() != "null";
    let check = || {
        name("name", agent)?;
        text("llmName", &spec.llm_name)?;
        prose("description", MAX_PROSE, spec.description.as_deref())?;
        prose("systemPrompt", MAX_PROMPT, spec.system_prompt.as_deref())?;
        prose("project", MAX_PROSE, spec.project.as_deref())?;
        params("defaultParams", spec.default_params.as_deref().filter(set))?;
        object("extras", spec.extras.as_deref().filter(set))
    };
    check().map_err(ManageError::Invalid)
}
