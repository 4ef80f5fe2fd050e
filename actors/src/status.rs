//! A snapshot of a registrar, for its owner. Prints as JSON for `status -o json`; no secret is in it.

use serde::{Deserialize, Serialize};
use wire::row::Timestamp;

use crate::provider::messages::ProviderReport;

/// All that the `status` command shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrarStatus {
    /// The hub, as configured.
    pub hub_url: String,
    /// The sticky id, once there is one.
    pub provider_session_id: Option<String>,
    /// The control channel.
    pub channel: ChannelStatus,
    /// The last heartbeat that the hub accepted.
    pub last_heartbeat_at: Option<Timestamp>,
    /// The last thing that went wrong with the hub, and when; stays after it went right again.
    pub last_error: Option<LastError>,
    /// Until when no task is taken, while paused without a limit `null`.
    pub paused: Option<Pause>,
    /// Since when the registrar runs.
    pub started_at: Timestamp,
    /// Each published provider.
    pub providers: Vec<ProviderState>,
}

/// Where the control channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelState {
    /// Registering, connecting, or waiting to.
    Connecting,
    /// Open.
    Connected,
    /// The hub refuses us; tried again every minute.
    Refused,
    /// Nothing to publish at the moment.
    Idle,
    /// Stopping: tasks in flight end.
    Draining,
}

/// The control channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Where it stands.
    pub state: ChannelState,
    /// Since when.
    pub since: Timestamp,
    /// Agreed with the hub; empty with a classic one.
    pub features: Vec<String>,
    /// How often it was opened since the start.
    pub opened: u64,
}

/// Something that went wrong with the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// What it was.
    pub message: String,
    /// When it was first seen.
    pub at: Timestamp,
}

/// The owner has the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Until when; `None`: until `resume`.
    pub until: Option<Timestamp>,
}

/// One published provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderState {
    /// Its name in the configuration.
    pub name: String,
    /// Its name at the hub.
    pub wire_name: String,
    /// The model that callers get.
    pub model: String,
    /// Whether a recipe can wake it.
    pub can_wake: bool,
    /// What it says of itself; `None` while it is withdrawn or crashes.
    pub report: Option<ProviderReport>,
    /// It crashed too often: until when it is not published.
    pub withdrawn_until: Option<Timestamp>,
    /// How often it crashed since the start.
    pub crashes: u64,
}
