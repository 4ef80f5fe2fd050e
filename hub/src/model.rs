//! The records that the hub keeps. What callers read of them is in `wire::row`.

use std::net::IpAddr;

use serde_json::value::RawValue;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};

/// The id of a user: the name that `token create --user` gave.
pub type UserId = String;

/// What a user may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Publish, use what is visible, own agents.
    Member,
    /// All of it, and tokens.
    Admin,
}

impl Role {
    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// The role that `word` stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Member, Self::Admin].into_iter().find(|role| role.as_str() == word)
    }
}

/// Who makes a request, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose token it is.
    pub user: UserId,
    /// What it may.
    pub role: Role,
    /// Which token it is: a revoked one ends what was opened with it.
    pub token_id: String,
}

impl Caller {
    /// Somebody who is no admin, and holds no token: what `user` sees at least.
    pub fn member(user: &str) -> Self {
        Self { user: user.to_owned(), role: Role::Member, token_id: String::new() }
    }

    /// The one visibility rule: a private thing is for its owner and for admins.
    pub fn sees(&self, visibility: Visibility, owner: &str) -> bool {
        visibility == Visibility::Public || self.role == Role::Admin || self.user == owner
    }
}

/// One LLM.
#[derive(Debug, Clone, PartialEq)]
pub struct Llm {
    /// Unchanging, random.
    pub id: String,
    /// Unique in the hub.
    pub name: String,
    /// `openai`, `vllm`, `anthropic`, …
    pub provider_type: String,
    /// The model that callers get.
    pub model: String,
    /// Hint for choosing.
    pub tier: Option<Tier>,
    /// For people.
    pub description: Option<String>,
    /// Public or virtual.
    pub kind: Kind,
    /// What the hub thinks of it now.
    pub status: Status,
    /// What its publisher said last, `active` or `hibernating`: revival returns to it.
    pub declared: Status,
    /// Last sign of life of its session.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when it is inactive.
    pub inactive_since: Option<Timestamp>,
    /// Its named pool.
    pub pool_name: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The user it belongs to.
    pub owner: UserId,
    /// The session that publishes it.
    pub session: Option<String>,
    /// Whether its session's last register call named it: one that was dropped is not revived.
    pub registered: bool,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// A public row's upstream.
    pub upstream: Option<Upstream>,
    /// Seconds of silence after which its publisher gives the backend up, where it said so.
    pub timeout_seconds: Option<u32>,
    /// Whether those who are not its owner may have its backend fetch addresses, run tools and keep answers.
    pub allow_remote_urls: bool,
}

/// Where a public row's answers come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Base URL, with `/v1`.
    pub url: String,
    /// The hub's key. Never shown again.
    pub api_key: Option<String>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream(***)")
    }
}

/// One agent.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Unchanging, random.
    pub id: String,
    /// Unique among agents.
    pub name: String,
    /// The LLM it uses.
    pub llm_name: String,
    /// For people.
    pub description: Option<String>,
    /// Put before the caller's messages.
    pub system_prompt: Option<String>,
    /// Free text of the publisher's.
    pub project: Option<String>,
    /// Request parameters that the caller did not give: a JSON object.
    pub default_params: Option<Box<RawValue>>,
    /// Free data of the publisher's: a JSON object.
    pub extras: Option<Box<RawValue>>,
    /// Public or virtual.
    pub kind: Kind,
    /// What the hub thinks of it now.
    pub status: Status,
    /// Last sign of life of its session.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when it is inactive.
    pub inactive_since: Option<Timestamp>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The user it belongs to.
    pub owner: UserId,
    /// The session that publishes it.
    pub session: Option<String>,
    /// Whether its session's last register call named it.
    pub registered: bool,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A name, and whose it is: of a row, a pool and an agent alike, while one of them is there and for a while after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord {
    /// The name.
    pub name: String,
    /// Whose it is.
    pub owner: UserId,
    /// Whether rows serve a pool of this name, or did.
    pub pool: bool,
    /// Whether everybody sees one of its owner's among them; where none is left, saw one of the last.
    pub shared: bool,
    /// Since when nothing has it.
    pub left_at: Option<Timestamp>,
    /// Where the row of this name was let in.
    pub admitted: Option<Admitted>,
    /// What the agent of this name is pinned to.
    pub pinned: Option<NameOf>,
}

/// A pool that a row was let into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Its name.
    pub pool: String,
    /// Whose it was: one that has changed hands since is another one.
    pub pool_owner: UserId,
    /// The room that the row had then: what counts of it at most. None, no limit, in a row of an older version.
    pub room: Option<u32>,
}

/// A name as it was another user's: one that has changed hands since is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameOf {
    /// The name.
    pub name: String,
    /// Whose it was.
    pub owner: UserId,
}

/// A publisher's session: who may use its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// The sticky id.
    pub id: String,
    /// The user whose token registered it.
    pub owner: UserId,
    /// Last sign of life.
    pub last_heartbeat_at: Timestamp,
    /// When it first registered.
    pub created_at: Timestamp,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Shown in lists; names it for revocation.
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Whose it is.
    pub user: UserId,
    /// What it may.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// One inference, for the audit and for `get task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The inference's id in the list of tasks; empty in a row of an older version.
    pub id: String,
    /// The task's id, of its last dispatch: the one that the publisher's log names.
    pub task: String,
    /// The `x-request-id` of the call; a durable task has none of its own.
    pub request_id: Option<String>,
    /// Who asked.
    pub user: UserId,
    /// From where; a durable task is asked for by a call of its own.
    pub address: Option<IpAddr>,
    /// The LLM row's name.
    pub llm: String,
    /// The agent that stands for the row where the row is hidden from the user.
    pub through: Option<String>,
    /// The model that answered.
    pub model: String,
    /// The session that answered; none for a public row.
    pub publisher: Option<String>,
    /// Whether it was streamed.
    pub streaming: bool,
    /// HTTP status; 499 for a caller who left.
    pub status: u16,
    /// Why it failed: a code of SPEC.md section 5.1.
    pub code: Option<String>,
    /// When it came in.
    pub created_at: Timestamp,
    /// To the first byte, in ms.
    pub first_byte_ms: Option<u64>,
    /// In all, in ms.
    pub total_ms: u64,
    /// From `usage`.
    pub input_tokens: Option<u64>,
    /// From `usage`.
    pub output_tokens: Option<u64>,
}

/// One durable task (`POST /api/v1/inference-tasks`).
#[derive(Debug, Clone)]
pub struct DurableTask {
    /// Random.
    pub id: String,
    /// Whose it is.
    pub owner: UserId,
    /// The token that sent it: what its holder may is asked when the task is sent out, and it ends with the token. None
    /// in a row of an older version.
    pub token: Option<String>,
    /// Row, pool or agent that was asked for.
    pub target: String,
    /// Where it is in its life.
    pub state: TaskStatus,
    /// The request, until the terminal state.
    pub request: Option<String>,
    /// Whether chunks were asked for.
    pub streaming: bool,
    /// The row that took it last.
    pub llm: Option<String>,
    /// The session that took it last.
    pub session: Option<String>,
    /// The answer's status and body.
    pub result: Option<(u16, String)>,
    /// Why it failed.
    pub error: Option<String>,
    /// The same as a code of SPEC.md section 5.1.
    pub code: Option<String>,
    /// When it came in.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where a task is in its life (SPEC.md section 5, queue).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Waits for a publisher with room.
    Pending,
    /// Sent to a publisher.
    Claimed,
    /// Its first byte came.
    Running,
    /// Answered.
    Completed,
    /// Failed.
    Error,
    /// Its caller does not want it any more.
    Cancelled,
}

impl TaskStatus {
    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Claimed => "claimed",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state that `word` stands for.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Claimed, Self::Running, Self::Completed, Self::Error, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == word)
    }

    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Error | Self::Cancelled)
    }
}
