//! A row that was chosen to answer a call.

use std::sync::Arc;
use std::time::Duration;

use wire::Features;
use wire::row::Visibility;

use super::{Room, UsageSupport};
use crate::model::Upstream;
use crate::telemetry::CacheCounters;

/// A chosen row, as it was at the time of the choice.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
pub struct Candidate {
    /// The row's name, also the wire name.
    pub name: String,
    /// The model that callers get.
    pub model: String,
    pub provider_type: String,
    /// The agent whose name replaces the row's in what the caller reads, if the caller does not see the row.
    pub through: Option<String>,
    /// The pool that it serves.
    pub pool: Option<String>,
    /// The session that publishes it; none for a public row.
    pub session: Option<String>,
    /// Whether another hub has the session's channel.
    pub is_elsewhere: bool,
    /// Features negotiated on the session's channel.
    pub features: Features,
    pub owner: String,
    pub visibility: Visibility,
    /// Whether its backend must be woken first.
    pub asleep: bool,
    pub room: Room,
    /// Whether its publisher reports its tasks and its slots: calls for it wait in the hub's line.
    pub reports: bool,
    pub upstream: Option<Upstream>,
    /// Whether callers other than the owner may ask its backend for more than an answer (SPEC.md section 5, reach).
    pub allow_remote_urls: bool,
    /// Silence of the backend after which its publisher gives up, if it is not the default.
    pub timeout: Option<Duration>,
    /// Where the prompt tokens of its answers are counted.
    pub cache: Arc<CacheCounters>,
    /// Whether its backend takes `stream_options`.
    pub usage_support: Arc<UsageSupport>,
}

impl Candidate {
    /// Whether it has no free slot: it will queue the task, or refuse it.
    pub fn is_full(&self) -> bool {
        self.room != Room::Free
    }

    /// Whether every caller sees the row.
    pub fn is_public(&self) -> bool {
        self.visibility == Visibility::Public
    }

    /// The name that the caller may read: the row's, or the agent's if the row is hidden.
    pub fn shown_name(&self) -> &str {
        self.through.as_deref().unwrap_or(&self.name)
    }

    /// The redaction of the row's name in its publisher's texts.
    pub fn redaction(&self) -> NameRedaction {
        let quoted = |name: &str| format!("'{name}'");
        NameRedaction(self.through.as_ref().map(|agent| (quoted(&self.name), quoted(agent))))
    }
}

/// Replaces the quoted name of a hidden row by the agent's in texts for the caller.
#[derive(Debug, Default)]
pub struct NameRedaction(Option<(String, String)>);

impl NameRedaction {
    /// Whether no name is replaced.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// `text` of a publisher as the caller may read it.
    pub fn apply(&self, text: &str) -> String {
        match &self.0 {
            Some((row, agent)) => text.replace(row, agent),
            None => text.to_owned(),
        }
    }
}
