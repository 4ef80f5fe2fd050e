use std::fmt;

use serde_json::value::RawValue;
use wire::Abilities;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};

use super::UserId;

/// An LLM.
#[derive(Debug, Clone, PartialEq)]
pub struct Llm {
    /// Random, and never changed.
    pub id: String,
    /// Unique in the hub.
    pub name: String,
    /// `openai`, `vllm`, `anthropic`, …
    pub provider_type: String,
    pub model: String,
    pub tier: Option<Tier>,
    pub description: Option<String>,
    pub kind: Kind,
    /// The status in the hub's view.
    pub status: Status,
    /// The publisher's last status, `active` or `hibernating`: a row that is revived returns to it.
    pub declared: Status,
    pub last_heartbeat_at: Option<Timestamp>,
    pub inactive_since: Option<Timestamp>,
    pub pool_name: Option<String>,
    pub visibility: Visibility,
    pub owner: UserId,
    /// The session that publishes the row.
    pub session: Option<String>,
    /// Whether the session's last register call named the row. If not, it is not revived.
    pub registered: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The upstream of a public row.
    pub upstream: Option<Upstream>,
    /// Seconds without output after which the publisher gives its backend up.
    pub timeout_seconds: Option<u32>,
    /// Whether other users than the owner may have the backend fetch addresses, run tools and keep answers.
    pub allow_remote_urls: bool,
    /// What the model can do, as its publisher or an admin says.
    pub abilities: Abilities,
}

impl Llm {
    /// Whether the two rows differ at most in their times of the last heartbeat and of the last update.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            id,
            name,
            provider_type,
            model,
            tier,
            description,
            kind,
            status,
            declared,
            last_heartbeat_at: _,
            inactive_since,
            pool_name,
            visibility,
            owner,
            session,
            registered,
            created_at,
            updated_at: _,
            upstream,
            timeout_seconds,
            allow_remote_urls,
            abilities,
        } = self;
        (id, name, provider_type, model, owner, session)
            == (&other.id, &other.name, &other.provider_type, &other.model, &other.owner, &other.session)
            && (tier, description, pool_name, upstream)
                == (&other.tier, &other.description, &other.pool_name, &other.upstream)
            && (kind, status, declared, visibility, registered)
                == (&other.kind, &other.status, &other.declared, &other.visibility, &other.registered)
            && (inactive_since, created_at) == (&other.inactive_since, &other.created_at)
            && (timeout_seconds, allow_remote_urls, abilities)
                == (&other.timeout_seconds, &other.allow_remote_urls, &other.abilities)
    }

    /// The size of the row in its owner's quota.
    pub fn bytes(&self) -> usize {
        let upstream = self.upstream.as_ref();
        bytes_of([
            Some(&self.name),
            Some(&self.provider_type),
            Some(&self.model),
            self.description.as_deref(),
            self.pool_name.as_deref(),
            upstream.map(|upstream| upstream.url.as_str()),
            upstream.and_then(|upstream| upstream.api_key.as_deref()),
        ])
    }
}

/// The size of a row or an agent with these texts: their bytes, and 128.
pub fn bytes_of<const N: usize>(texts: [Option<&str>; N]) -> usize {
    128 + texts.into_iter().flatten().map(str::len).sum::<usize>()
}

/// The upstream of a public row.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Base URL, with `/v1`.
    pub url: String,
    /// The hub's key, never shown.
    pub api_key: Option<String>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream(***)")
    }
}

/// An agent: an LLM with a prompt and parameters.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Random, and never changed.
    pub id: String,
    /// Unique among agents.
    pub name: String,
    pub llm_name: String,
    pub description: Option<String>,
    /// Put before the caller's messages.
    pub system_prompt: Option<String>,
    pub project: Option<String>,
    /// Default request parameters, a JSON object.
    pub default_params: Option<Box<RawValue>>,
    /// Free data of the publisher, a JSON object.
    pub extras: Option<Box<RawValue>>,
    pub kind: Kind,
    /// The status in the hub's view.
    pub status: Status,
    pub last_heartbeat_at: Option<Timestamp>,
    pub inactive_since: Option<Timestamp>,
    pub visibility: Visibility,
    pub owner: UserId,
    /// The session that publishes the agent.
    pub session: Option<String>,
    /// Whether the session's last register call named the agent.
    pub registered: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl NameRecord {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let admitted =
            self.admitted.as_ref().map_or(0, |admitted| admitted.pool.len() + admitted.pool_owner.len());
        let pinned = self.pinned.as_ref().map_or(0, |pinned| pinned.name.len() + pinned.owner.len());
        self.name.len() + self.owner.len() + admitted + pinned
    }
}

impl Agent {
    /// Whether the two agents differ at most in their times of the last heartbeat and of the last update.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self {
            id,
            name,
            llm_name,
            description,
            system_prompt,
            project,
            default_params,
            extras,
            kind,
            status,
            last_heartbeat_at: _,
            inactive_since,
            visibility,
            owner,
            session,
            registered,
            created_at,
            updated_at: _,
        } = self;
        let json = |value: &Option<Box<RawValue>>, other: &Option<Box<RawValue>>| {
            value.as_deref().map(RawValue::get) == other.as_deref().map(RawValue::get)
        };
        (id, name, llm_name, owner, session)
            == (&other.id, &other.name, &other.llm_name, &other.owner, &other.session)
            && (description, system_prompt, project)
                == (&other.description, &other.system_prompt, &other.project)
            && json(default_params, &other.default_params)
            && json(extras, &other.extras)
            && (kind, status, visibility, registered)
                == (&other.kind, &other.status, &other.visibility, &other.registered)
            && (inactive_since, created_at) == (&other.inactive_since, &other.created_at)
    }

    /// The size of the agent in its owner's quota.
    pub fn bytes(&self) -> usize {
        bytes_of([
            Some(&self.name),
            Some(&self.llm_name),
            self.description.as_deref(),
            self.system_prompt.as_deref(),
            self.project.as_deref(),
            self.default_params.as_deref().map(RawValue::get),
            self.extras.as_deref().map(RawValue::get),
        ])
    }
}

/// The owner of a name, which rows, pools and agents share. It is kept for a while after the last of them is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord {
    pub name: String,
    pub owner: UserId,
    /// Whether rows serve a pool of this name, or did.
    pub pool: bool,
    /// Whether one of the owner's things of this name is public, or the last one was.
    pub shared: bool,
    /// When the last thing of this name was deleted.
    pub left_at: Option<Timestamp>,
    /// The pool that the row of this name was admitted to.
    pub admitted: Option<PoolAdmission>,
    /// The LLM that the agent of this name is pinned to.
    pub pinned: Option<OwnedName>,
}

/// The admission of a row to a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolAdmission {
    pub pool: String,
    /// The pool's owner at the time: the admission ends when the pool changes hands.
    pub pool_owner: UserId,
    /// The row's concurrency at the time: more of it does not count. `None`, no limit, in a row of an older version.
    pub room: Option<u32>,
}

/// A name and its owner at the time: the reference ends when the name changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedName {
    pub name: String,
    pub owner: UserId,
}
