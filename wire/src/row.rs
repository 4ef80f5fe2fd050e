//! LLMs and agents as the hub shows them to callers (SPEC.md section 3.7).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::abilities::Capabilities;

/// Milliseconds since the Unix epoch; in JSON, RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Adds `millis`, saturating.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Returns the milliseconds since `earlier`; 0 if the clock went back.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        write!(f, "{moment:.3}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(moment.as_millisecond()))
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// Returns the name in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Parses the name in JSON.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

wire_enum! {
    /// Where an LLM runs.
    Kind {
        /// At an upstream URL, which the hub calls with its own key.
        Public = "public",
        /// At a publisher, to which the hub relays.
        Virtual = "virtual",
    }
}

wire_enum! {
    /// State of an LLM in the registry.
    Status {
        /// Accepts inferences.
        Active = "active",
        /// Its publisher is not connected.
        Inactive = "inactive",
        /// Its publisher can wake it.
        Hibernating = "hibernating",
    }
}

wire_enum! {
    /// The users that may see and use a row or an agent.
    #[derive(Default)]
    Visibility {
        /// Its owner and admins.
        #[default]
        Private = "private",
        /// All users.
        Public = "public",
    }
}

wire_enum! {
    /// Size class, a hint for callers.
    Tier {
        /// A small model.
        Fast = "fast",
        /// A large model.
        Heavy = "heavy",
    }
}

/// One LLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LlmRow {
    /// Permanent id.
    pub id: String,
    /// Name, unique in the hub.
    pub name: String,
    /// `openai`, `vllm`, `anthropic`, …
    #[serde(rename = "type")]
    pub provider_type: String,
    /// The model of the backend.
    pub model: String,
    /// Size class, a hint for callers.
    pub tier: Option<Tier>,
    /// Text for display.
    pub description: Option<String>,
    /// Public or virtual.
    pub kind: Kind,
    /// State in the registry.
    pub status: Status,
    /// Time of the last heartbeat of its publisher.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Time when it became inactive.
    pub inactive_since: Option<Timestamp>,
    /// Its pool; a row without one is a pool of its own.
    pub pool_name: Option<String>,
    /// The owner of that pool, if the row awaits admission; shown to both owners and to admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The users that may see it.
    pub visibility: Visibility,
    /// The owning user.
    pub owner_id: Option<String>,
    /// The session that publishes it.
    pub provider_session_id: Option<String>,
    /// Time of the first registration.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
    /// Whether other users may send what the request policy refuses; left out if false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_remote_urls: bool,
    /// Tokens of prompt and answer together that the backend serves; left out if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u32>,
    /// Tokens of the longest answer; left out if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u32>,
    /// What the model can do; left out if unknown.
    #[serde(default, skip_serializing_if = "Capabilities::is_unknown")]
    pub capabilities: Capabilities,
    /// The upstream URL of a public row; shown to users that may change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// One agent: a named prompt with default parameters for an LLM.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentRow {
    /// Permanent id.
    pub id: String,
    /// Name, unique among agents.
    pub name: String,
    /// The LLM that it uses; `null` if the caller may not see it.
    pub llm_name: Option<String>,
    /// Text for display.
    pub description: Option<String>,
    /// Text for display.
    pub project: Option<String>,
    /// Members that can be long; left out in lists.
    #[serde(flatten)]
    pub adds: Option<AgentAdds>,
    /// Public or virtual.
    pub kind: Kind,
    /// State in the registry.
    pub status: Status,
    /// The users that may see it.
    pub visibility: Visibility,
    /// The owning user.
    pub owner_id: Option<String>,
    /// The session that publishes it.
    pub provider_session_id: Option<String>,
    /// Time of the last heartbeat of its publisher.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Time when it became inactive.
    pub inactive_since: Option<Timestamp>,
    /// Time of the first registration.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// The members of an agent that can be long.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentAdds {
    /// Inserted before the caller's messages.
    pub system_prompt: Option<String>,
    /// Defaults for request members.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub default_params: Option<Box<RawValue>>,
    /// Data for callers.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub extras: Option<Box<RawValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_700_000_000_120).to_string(), "2023-11-14T22:13:20.120Z");
        let back: Timestamp = serde_json::from_str("\"2023-11-14T22:13:20.120Z\"").unwrap();
        assert_eq!(back, Timestamp(1_700_000_000_120));
    }
}
