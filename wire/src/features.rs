//! The extensions of SPEC.md section 4: named by both sides, or off.

use serde::{Deserialize, Serialize};

/// Request header in which a registrar names the features it has.
pub const FEATURES_HEADER: &str = "x-virtual-llm-features";
/// Request header that names the session on the control channel.
pub const SESSION_HEADER: &str = "x-mcpctl-provider-session";

/// One extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The hub tells when a caller has gone.
    Cancel,
    /// A streamed answer travels as one upload.
    ResultStream,
    /// Chunk POSTs are numbered.
    ChunkSeq,
    /// Heartbeats carry the stream's id and each provider's state.
    Status,
    /// A publisher can say that it takes no more tasks.
    Drain,
    /// Tasks may name an endpoint other than chat completions.
    Endpoints,
    /// The hub, which knows who calls, keeps from a backend what only its owner may ask of it.
    Guard,
}

const ALL: [(Feature, &str); 7] = [
    (Feature::Cancel, "cancel"),
    (Feature::ResultStream, "result-stream"),
    (Feature::ChunkSeq, "chunk-seq"),
    (Feature::Status, "status"),
    (Feature::Drain, "drain"),
    (Feature::Endpoints, "endpoints"),
    (Feature::Guard, "guard"),
];

/// A set of features. Empty for a classic peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u8);

impl Features {
    /// A peer that speaks only section 3.
    pub const CLASSIC: Self = Self(0);
    /// All that this version has.
    pub const ALL: Self = Self(0b111_1111);

    /// The set with `feature` in it.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// The set without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u8))
    }

    /// Whether `feature` is in the set.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// What both sides name is on; `result-stream` needs `cancel`.
    #[must_use]
    pub const fn negotiated(self, other: Self) -> Self {
        let both = Self(self.0 & other.0);
        if both.has(Feature::Cancel) { both } else { both.without(Feature::ResultStream) }
    }

    /// The names in a header value such as `cancel, status`. Unknown names are ignored.
    pub fn parse(list: &str) -> Self {
        Self::from_names(list.split(',').map(str::trim))
    }

    /// The set of the known ones among `names`.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().fold(Self::CLASSIC, |set, name| {
            match ALL.iter().find(|(_, known)| *known == name) {
                Some((feature, _)) => set.with(*feature),
                None => set,
            }
        })
    }

    /// The names in the set, in the order of SPEC.md section 4.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        ALL.into_iter().filter(move |(feature, _)| self.has(*feature)).map(|(_, name)| name)
    }

    /// The set as a header value.
    pub fn header_value(self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

/// The data of `event: hello`. A classic hub sends something else or nothing: all its fields then stay empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hello {
    /// The features that the hub has.
    pub features: Vec<String>,
    /// Names this opening of the channel; heartbeats carry it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
}

/// Longest stream id that is kept, as that of a session is; a longer one counts as none.
const LONGEST_STREAM_ID: usize = 256;

impl Hello {
    /// Reads a hello's data; anything unexpected is a classic hub's.
    pub fn parse(data: &str) -> Self {
        let mut hello: Self = serde_json::from_str(data).unwrap_or_default();
        // It is sent back in each heartbeat.
        hello.stream_id = hello.stream_id.filter(|id| id.len() <= LONGEST_STREAM_ID);
        hello
    }

    /// The features named, as a set.
    pub fn features(&self) -> Features {
        Features::from_names(self.features.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_all_features_in_the_order_of_the_specification() {
        assert_eq!(
            Features::ALL.header_value(),
            "cancel, result-stream, chunk-seq, status, drain, endpoints, guard"
        );
        assert_eq!(Features::parse(&Features::ALL.header_value()), Features::ALL);
    }

    #[test]
    fn a_stream_id_that_is_longer_than_any_id_counts_as_none() {
        for (length, is_kept) in [(0, true), (256, true), (257, false), (1 << 20, false)] {
            let id = "x".repeat(length);
            let hello = Hello::parse(&format!(r#"{{"features":["cancel"],"streamId":"{id}"}}"#));
            assert_eq!(hello.stream_id.is_some(), is_kept, "{length}");
            assert!(hello.features().has(Feature::Cancel), "the rest is read");
        }
    }

    /// F89: only what both sides name is on.
    #[test]
    fn an_unknown_feature_is_ignored_and_a_classic_hello_negotiates_nothing() {
        assert_eq!(
            Features::parse("teleport,drain").negotiated(Features::ALL),
            Features::CLASSIC.with(Feature::Drain)
        );
        for classic in ["", "{}", "null", "[]", "\"hi\"", "{\"features\":null}", "{\"features\":[1]}"] {
            assert_eq!(Hello::parse(classic).features(), Features::CLASSIC, "{classic}");
        }
    }

    #[test]
    fn result_stream_without_cancel_is_off() {
        let peer = Features::CLASSIC.with(Feature::ResultStream).with(Feature::Drain);
        assert_eq!(Features::ALL.negotiated(peer), Features::CLASSIC.with(Feature::Drain));
    }
}
