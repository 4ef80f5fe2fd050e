//! The hub's record of an LLM and of an agent, as callers read them (SPEC.md section 3.7).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A moment, in milliseconds since the Unix epoch; on the wire RFC 3339 in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment `millis` later (earlier when negative), never past the ends of the range.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; 0 when the clock went back.
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
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(moment.as_millisecond()))
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value that `word` stands for.
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

words! {
    /// Who answers for an LLM.
    Kind {
        /// The hub calls an upstream URL with a key that it holds.
        Public = "public",
        /// Relayed to a publisher.
        Virtual = "virtual",
    }
}

words! {
    /// What the hub thinks of an LLM.
    Status {
        /// Takes inferences.
        Active = "active",
        /// Its publisher is away.
        Inactive = "inactive",
        /// Its publisher can wake it.
        Hibernating = "hibernating",
    }
}

words! {
    /// Who may see and use a row or an agent.
    #[derive(Default)]
    Visibility {
        /// Its owner and admins.
        #[default]
        Private = "private",
        /// Everybody with a token.
        Public = "public",
    }
}

words! {
    /// A hint for choosing.
    Tier {
        /// Quick and small.
        Fast = "fast",
        /// Slow and able.
        Heavy = "heavy",
    }
}

/// One LLM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LlmRow {
    /// Unchanging id.
    pub id: String,
    /// Unique in the hub.
    pub name: String,
    /// `openai`, `vllm`, `anthropic`, …
    #[serde(rename = "type")]
    pub provider_type: String,
    /// The model behind it.
    pub model: String,
    /// Hint for choosing.
    pub tier: Option<Tier>,
    /// For people.
    pub description: Option<String>,
    /// Public or virtual.
    pub kind: Kind,
    /// What the hub thinks of it.
    pub status: Status,
    /// Last sign of life of its publisher.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when it is inactive.
    pub inactive_since: Option<Timestamp>,
    /// Its named pool; without one it is a pool of its own.
    pub pool_name: Option<String>,
    /// The owner of that pool, where the row waits to be let in; for both owners and admins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// The user it belongs to.
    pub owner_id: Option<String>,
    /// The session that publishes it.
    pub provider_session_id: Option<String>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Whether those who are not its owner may have its backend fetch addresses, run tools and keep answers; left out
    /// where they may not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_remote_urls: bool,
    /// A public row's upstream URL, for those who may change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// One agent: a named prompt and parameters over an LLM.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRow {
    /// Unchanging id.
    pub id: String,
    /// Unique among agents.
    pub name: String,
    /// The LLM it uses; `null` for a caller who may not know of it.
    pub llm_name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Free text of the publisher's.
    pub project: Option<String>,
    /// What it adds to a request; lists leave it out.
    #[serde(flatten)]
    pub adds: Option<AgentAdds>,
    /// Public or virtual.
    pub kind: Kind,
    /// What the hub thinks of it.
    pub status: Status,
    /// Who may see it.
    pub visibility: Visibility,
    /// The user it belongs to.
    pub owner_id: Option<String>,
    /// The session that publishes it.
    pub provider_session_id: Option<String>,
    /// Last sign of life of its publisher.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Since when it is inactive.
    pub inactive_since: Option<Timestamp>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The keys of an agent that may be long.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentAdds {
    /// Put before the caller's messages.
    pub system_prompt: Option<String>,
    /// Request parameters that the caller did not give.
    pub default_params: Option<Box<RawValue>>,
    /// Free data of the publisher's.
    pub extras: Option<Box<RawValue>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_rfc_3339_in_utc_with_three_digits_of_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_700_000_000_120).to_string(), "2023-11-14T22:13:20.120Z");
        let back: Timestamp = serde_json::from_str("\"2023-11-14T22:13:20.120Z\"").unwrap();
        assert_eq!(back, Timestamp(1_700_000_000_120));
    }
}
