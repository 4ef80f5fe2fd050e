//! The records of the hub: users and tokens, rows and names, tasks and the audit. Views for callers are in `wire::row`,
//! and the rules of the records' life in `registry` and `tasks`.

use std::net::IpAddr;

use schemars::JsonSchema;
use wire::row::{Timestamp, Visibility};

mod alias;
mod limits;
mod rows;
mod tokens;
mod usage;

pub use alias::{Alias, AliasScope};
pub use limits::{AllowedModels, CallLimits, LimitOwner, LimitRecord, ModelPatterns};
pub use rows::{Agent, Llm, NameRecord, OwnedName, PoolAdmission, Upstream, bytes_of};
pub use tokens::TokenCounts;
pub use usage::{Day, MAX_COUNT, OTHERS, REFUSED, UsageCounts, UsageKey, UsageSum};

/// The name of a user (`token create --user`).
pub type UserId = String;

/// The role of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// May publish, use what is visible to it, and own agents.
    Member,
    /// May do everything, and manage tokens.
    Admin,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Member, Self::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

/// The caller of a request, as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    /// The token's id: its revocation ends everything opened with it.
    pub token_id: String,
    /// Others look as if they did not exist.
    pub models: AllowedModels,
    /// Which of the token's secrets it sent: what was opened with a secret ends with it. `None` for a durable task, and for a
    /// call that another hub passed on.
    pub secret: Option<SecretMark>,
}

/// Tells the secrets of one token apart: the first bytes of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretMark(u64);

impl SecretMark {
    pub(crate) fn of(hash: &[u8; 32]) -> Self {
        Self(hash.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte)))
    }
}

impl Caller {
    /// A member without a token, who sees what every token of `user` sees.
    pub fn member(user: &str) -> Self {
        Self {
            user: user.to_owned(),
            role: Role::Member,
            token_id: String::new(),
            models: AllowedModels::default(),
            secret: None,
        }
    }

    /// The rule of visibility: private things are visible to their owner and to admins. The names that an admin allows
    /// the caller (`models`) come on top.
    pub fn sees(&self, visibility: Visibility, owner: &str) -> bool {
        visibility == Visibility::Public || self.role == Role::Admin || self.user == owner
    }
}

/// A publisher's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub id: String,
    /// The user whose token registered it. Other users cannot use its id.
    pub owner: UserId,
    pub last_heartbeat_at: Timestamp,
    pub created_at: Timestamp,
    /// The hub that has, or last had, its control channel; `None` for a hub alone.
    pub hub: Option<String>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    pub user: UserId,
    pub role: Role,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    /// The secret before the last rotation. What was opened with the token before its end ends then.
    pub old: Option<EndingHash>,
    /// The code of a sign-in link that nobody has used.
    pub link: Option<EndingHash>,
}

/// SHA-256 of a secret that is valid for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndingHash {
    pub hash: [u8; 32],
    pub until: Timestamp,
}

impl Token {
    /// Whether it is neither revoked nor expired, and somebody has its secret or can get it.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        let ends = [self.expires_at, self.link.map(|link| link.until)];
        self.revoked_at.is_none() && ends.into_iter().flatten().all(|end| now < end)
    }
}

/// One inference, for the audit and for `get task`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// The inference's id in the list of tasks; empty in a row of an older version.
    pub id: String,
    /// The task id of the last dispatch, which the publisher's log names.
    pub task: String,
    /// The `x-request-id` of the call; null for a durable task.
    pub request_id: Option<String>,
    pub user: UserId,
    /// The caller's address; null for a durable task.
    pub address: Option<IpAddr>,
    /// The name of the row.
    pub llm: String,
    /// Whose LLM answered or failed: the owner of the row, else of the name that was called. Of no answer of a row alone, nobody.
    #[serde(skip)]
    pub owner: Option<UserId>,
    /// The agent that is shown instead of a row hidden from the user.
    #[serde(skip)]
    pub through: Option<String>,
    pub model: String,
    /// The session that answered; null for a public row.
    pub publisher: Option<String>,
    pub streaming: bool,
    /// HTTP status; 499 if the caller left.
    pub status: u16,
    /// A code of SPEC.md section 5.1, if the inference failed.
    pub code: Option<String>,
    pub created_at: Timestamp,
    /// Milliseconds to the first byte.
    pub first_byte_ms: Option<u64>,
    /// Milliseconds in all.
    pub total_ms: u64,
    #[serde(flatten)]
    pub tokens: TokenCounts,
}

impl AuditRecord {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let Self { id, task, request_id, user, llm, owner, through, model, publisher, code, .. } = self;
        let optional = [request_id, owner, through, publisher, code].into_iter().flatten();
        [id, task, user, llm, model].into_iter().chain(optional).map(String::len).sum()
    }
}

/// One durable task (`POST /api/v1/inference-tasks`).
#[derive(Debug, Clone)]
pub struct DurableTask {
    pub id: String,
    pub owner: UserId,
    /// The id of the token that sent the task, and with which it ends. `None` in a row of an older version.
    pub token: Option<String>,
    /// The requested row, pool or agent.
    pub target: String,
    /// The owner of the target's name when the task was accepted. `None` if an older version accepted it and the name was
    /// free when its file was migrated.
    pub target_owner: Option<UserId>,
    pub state: TaskStatus,
    /// The request, until the task has ended.
    pub request: Option<String>,
    pub streaming: bool,
    /// The row of the last dispatch.
    pub llm: Option<String>,
    /// The session of the last dispatch.
    pub session: Option<String>,
    /// Status and body of the answer.
    pub result: Option<(u16, String)>,
    pub error: Option<String>,
    /// The error as a code of SPEC.md section 5.1.
    pub code: Option<String>,
    /// Of a task that has ended; `None` if an older version ended it.
    pub tokens: Option<TokenCounts>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The state of a durable task (SPEC.md section 5, queue).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// Waits for a publisher with capacity.
    Pending,
    /// Dispatched to a publisher.
    Claimed,
    /// The first byte of the answer has arrived.
    Running,
    Completed,
    Error,
    Cancelled,
}

impl TaskStatus {
    /// The text on the wire and in the store.
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

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Claimed, Self::Running, Self::Completed, Self::Error, Self::Cancelled]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// Whether the task has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Error | Self::Cancelled)
    }
}
