//! The first frame of either end, as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::Tables;
use super::{MAX_ID, MAX_TASKS};
use crate::Features;

/// The hub's hello.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hello {
    /// Names of the hub's features.
    pub features: Vec<String>,
    /// Id of this connection, repeated in heartbeats.
    pub stream_id: String,
    /// What the hub has of the answers of all tasks for which it waits.
    pub tasks: Tables,
}

/// The registrar's resume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resume {
    /// What the registrar has of the tasks that it knows.
    pub tasks: Tables,
}

impl Hello {
    /// Parses a hello; `None` if it is not one, or has too many tasks or one with too long an id.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|hello: &Self| are_valid(&hello.tasks))
    }

    /// Returns the named features as a set.
    pub fn features(&self) -> Features {
        Features::from_names(self.features.iter().map(String::as_str))
    }

    /// Formats the hello.
    pub fn to_json(&self) -> Bytes {
        json(self)
    }
}

impl Resume {
    /// Parses a resume; `None` if it is not one, or has too many tasks or one with too long an id.
    pub fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().filter(|resume: &Self| are_valid(&resume.tasks))
    }

    /// Formats the resume.
    pub fn to_json(&self) -> Bytes {
        json(self)
    }
}

fn are_valid(tasks: &Tables) -> bool {
    tasks.len() <= MAX_TASKS && tasks.keys().all(|task| task.len() <= MAX_ID)
}

/// Strings and numbers always have a JSON form.
fn json(greeting: &impl Serialize) -> Bytes {
    serde_json::to_vec(greeting).unwrap_or_default().into()
}
