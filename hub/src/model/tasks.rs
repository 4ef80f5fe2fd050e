use std::net::IpAddr;

use wire::row::Timestamp;

use super::UserId;

/// One inference, for the audit and for `get task`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The inference's id in the list of tasks; empty in a row of an older version.
    pub id: String,
    /// The task id of the last dispatch, which the publisher's log names.
    pub task: String,
    /// The `x-request-id` of the call; `None` for a durable task.
    pub request_id: Option<String>,
    pub user: UserId,
    /// The caller's address; `None` for a durable task.
    pub address: Option<IpAddr>,
    /// The name of the row.
    pub llm: String,
    /// The agent that is shown instead of a row hidden from the user.
    pub through: Option<String>,
    pub model: String,
    /// The session that answered; `None` for a public row.
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
    pub input_tokens: Option<u64>,
    pub output_tokens: Option<u64>,
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
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The state of a durable task (SPEC.md section 5, queue).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
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
