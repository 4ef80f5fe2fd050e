//! What owners and admins read of a session.

use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use super::ControlChannel;
use crate::model::{Caller, Role};
use crate::registry::{Registry, ToldSession};

/// A publisher's session, as its owner and admins read it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionView {
    pub id: String,
    pub owner_id: String,
    /// `connected`, `draining` or `away`.
    pub status: &'static str,
    /// Features negotiated on its channel.
    pub features: Vec<&'static str>,
    /// Rows and agents that its last register call named.
    pub llms: Vec<String>,
    pub agents: Vec<String>,
    /// Wall-clock time of its last heartbeat.
    pub last_heartbeat_at: Timestamp,
    /// Wall-clock time of its first registration.
    pub created_at: Timestamp,
}

impl Registry {
    /// The session `id` as `caller` reads it: one of its own; an admin reads all.
    pub(in crate::registry) fn session_view(&self, caller: &Caller, id: &str) -> Option<SessionView> {
        let session = self.sessions.get(id)?;
        if caller.role != Role::Admin && caller.user != session.record.owner {
            return None;
        }
        Some(SessionView {
            id: session.record.id.clone(),
            owner_id: session.record.owner.clone(),
            status: match session.channel {
                _ if let Some(told) = &session.told => told.status(),
                ControlChannel::Open { .. } if session.draining => "draining",
                ControlChannel::Open { .. } if !session.silent => "connected",
                _ => "away",
            },
            features: session
                .told
                .as_ref()
                .map_or(session.features(), ToldSession::features)
                .names()
                .collect(),
            llms: session.llms.iter().cloned().collect(),
            agents: session.agents.iter().cloned().collect(),
            last_heartbeat_at: session.record.last_heartbeat_at,
            created_at: session.record.created_at,
        })
    }
}
