//! The optional features of SPEC.md section 4. A feature is on if both sides name it.

use serde::{Deserialize, Serialize};

/// Request header in which a registrar names its features.
pub const FEATURES_HEADER: &str = "x-virtual-llm-features";
/// Request header that names the session on the control channel.
pub const SESSION_HEADER: &str = "x-mcpctl-provider-session";

/// An optional feature of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The hub sends `event: cancel` when a caller disconnects.
    Cancel,
    /// Chunk POSTs are numbered.
    ChunkSeq,
    /// Heartbeats carry the stream's id and each provider's state.
    Status,
    /// A publisher can announce that it accepts no more tasks.
    Drain,
    /// Tasks may name an endpoint other than chat completions.
    Endpoints,
    /// The hub applies the [request policy](crate::request_policy), because it knows the caller.
    Guard,
    /// Heartbeats are frames of the link.
    Beat,
}

const ALL: [(Feature, &str); 7] = [
    (Feature::Cancel, "cancel"),
    (Feature::ChunkSeq, "chunk-seq"),
    (Feature::Status, "status"),
    (Feature::Drain, "drain"),
    (Feature::Endpoints, "endpoints"),
    (Feature::Guard, "guard"),
    (Feature::Beat, "beat"),
];

/// A set of features; empty for a classic peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u8);

impl Features {
    /// No feature: the protocol of section 3.
    pub const CLASSIC: Self = Self(0);
    /// All features of this version.
    pub const ALL: Self = Self(0b111_1111);

    /// Adds `feature` to the set.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// Removes `feature` from the set.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u8))
    }

    /// Whether `feature` is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// Features that both sides name.
    #[must_use]
    pub const fn negotiated(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Parses a header value such as `cancel, status`. Unknown names are ignored.
    pub fn parse(list: &str) -> Self {
        Self::from_names(list.split(',').map(str::trim))
    }

    /// Builds the set of the known features among `names`.
    pub(crate) fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().fold(Self::CLASSIC, |set, name| {
            match ALL.iter().find(|(_, known)| *known == name) {
                Some((feature, _)) => set.with(*feature),
                None => set,
            }
        })
    }

    /// Iterates over the names in the order of SPEC.md section 4.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        ALL.into_iter().filter(move |(feature, _)| self.has(*feature)).map(|(_, name)| name)
    }

    /// Formats the set as a header value.
    pub fn header_value(self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

/// The data of `event: hello`. All fields are empty if the hub is a classic one, which sends other data or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hello {
    /// Names of the features of the hub.
    pub features: Vec<String>,
    /// Id of this connection of the channel, repeated in heartbeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
}

/// Maximum length of a stream id in bytes, as for a session id. A longer one is dropped.
const MAX_STREAM_ID: usize = 256;

impl Hello {
    /// Parses the data of the event; unexpected data counts as that of a classic hub.
    pub fn parse(data: &str) -> Self {
        let mut hello: Self = serde_json::from_str(data).unwrap_or_default();
        // Each heartbeat repeats it.
        hello.stream_id = hello.stream_id.filter(|id| id.len() <= MAX_STREAM_ID);
        hello
    }

    /// Returns the named features as a set.
    pub fn features(&self) -> Features {
        Features::from_names(self.features.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_features_in_the_order_of_the_specification() {
        assert_eq!(Features::ALL.header_value(), "cancel, chunk-seq, status, drain, endpoints, guard, beat");
        assert_eq!(Features::parse(&Features::ALL.header_value()), Features::ALL);
    }

    #[test]
    fn a_stream_id_that_is_too_long_is_dropped() {
        for (length, is_kept) in [(0, true), (256, true), (257, false), (1 << 20, false)] {
            let id = "x".repeat(length);
            let hello = Hello::parse(&format!(r#"{{"features":["cancel"],"streamId":"{id}"}}"#));
            assert_eq!(hello.stream_id.is_some(), is_kept, "{length}");
            assert!(hello.features().has(Feature::Cancel), "the rest is read");
        }
    }

    /// F89: only features that both sides name are on.
    #[test]
    fn unknown_features_and_classic_hellos_are_ignored() {
        assert_eq!(
            Features::parse("teleport,drain").negotiated(Features::ALL),
            Features::CLASSIC.with(Feature::Drain)
        );
        for classic in ["", "{}", "null", "[]", "\"hi\"", "{\"features\":null}", "{\"features\":[1]}"] {
            assert_eq!(Hello::parse(classic).features(), Features::CLASSIC, "{classic}");
        }
    }
}
