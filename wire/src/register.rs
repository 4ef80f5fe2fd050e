//! `POST /_provider-register` (SPEC.md section 3.1), heartbeat and drain.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::abilities::{Abilities, Capabilities, MAX_TOKENS};
use crate::json::{each_element, unquote};
use crate::names::PATTERN;
use crate::row::{Status, Tier, Timestamp, Visibility};

/// The complete set of LLMs and agents of a publisher. It replaces the previous set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// The session id that the publisher has stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_session_id: Option<String>,
    /// The LLMs to publish.
    #[serde(default)]
    pub providers: Vec<ProviderEntry>,
    /// The agents to publish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentEntry>,
}

/// One LLM of a register call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderEntry {
    /// The wire name.
    #[schemars(regex(pattern = PATTERN))]
    pub name: String,
    /// `openai`, `vllm`, `ollama`, `anthropic`, …
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 512))]
    pub provider_type: String,
    /// The model of the backend.
    #[schemars(length(min = 1, max = 512))]
    pub model: String,
    /// Size class, a hint for callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Text for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// The pool that it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = PATTERN))]
    pub pool_name: Option<String>,
    /// Always sent; private if an older registrar leaves it out.
    #[serde(default)]
    pub visibility: Visibility,
    /// `active` or `hibernating`; always sent.
    #[serde(default = "active")]
    pub initial_status: Status,
    /// Seconds without data after which the publisher ends a call to its backend; left out if 600, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Whether other users may send what the request policy refuses; left out if false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_remote_urls: bool,
    /// Maximum number of concurrent inferences; left out if 4, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Tokens of prompt and answer together that the backend serves; left out if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_TOKENS))]
    pub context_length: Option<u32>,
    /// Tokens of the longest answer; left out if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_TOKENS))]
    pub max_output_tokens: Option<u32>,
    /// What the model can do; left out if unknown.
    #[serde(default, skip_serializing_if = "Capabilities::is_unknown")]
    pub capabilities: Capabilities,
}

impl ProviderEntry {
    /// The three members about what the model can do.
    pub const fn abilities(&self) -> Abilities {
        let Self { context_length, max_output_tokens, capabilities, .. } = *self;
        Abilities { context_length, max_output_tokens, capabilities }
    }
}

fn active() -> Status {
    Status::Active
}

/// One agent of a register call.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentEntry {
    /// The wire name.
    #[schemars(regex(pattern = PATTERN))]
    pub name: String,
    /// The wire name of its LLM.
    #[schemars(length(min = 1, max = 512))]
    pub llm_name: String,
    /// Text for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// Inserted before the caller's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub system_prompt: Option<String>,
    /// Text for display.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub project: Option<String>,
    /// Defaults for request members: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub default_params: Option<Box<RawValue>>,
    /// Data for callers: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub extras: Option<Box<RawValue>>,
    /// Always sent; private by default.
    #[serde(default)]
    pub visibility: Visibility,
}

/// The members that a registrar reads of the answer to a register call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterAnswer {
    /// The session id from now on, to be stored.
    pub provider_session_id: String,
    /// Warnings about the accepted call.
    #[serde(default)]
    pub warnings: FewTexts,
}

/// The members that a registrar reads of the answer to a heartbeat.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// Names of rows and agents that an admin deleted after the session registered them.
    #[serde(default)]
    deleted: FewTexts,
}

impl HeartbeatAnswer {
    /// Iterates over the deleted names that are valid.
    pub fn deleted(&self) -> impl Iterator<Item = &str> {
        self.deleted.iter().filter(|name| crate::names::check(name).is_ok())
    }
}

/// The first texts of an array. Another hub can send any JSON, also of millions of values, so it is read without a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FewTexts(Vec<String>);

impl FewTexts {
    /// Maximum number of texts that are read.
    const MAX: usize = 16;

    /// Iterates over the texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for FewTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let array = Box::<RawValue>::deserialize(deserializer)?;
        let mut texts = Vec::new();
        // What is nested too deep has no texts.
        let _ = each_element(array.get(), |element| {
            if texts.len() < Self::MAX
                && let Some(text) = unquote(element)
            {
                texts.push(text.into_owned());
            }
        });
        Ok(Self(texts))
    }
}

/// `POST /_provider-heartbeat`, and with the id alone `POST /_provider-drain`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The session to keep alive, or to drain.
    pub provider_session_id: String,
    /// Id of the publisher's open channel (feature `status`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// State of each provider (feature `status`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<Vec<ProviderStatus>>,
}

/// State of one provider (feature `status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The wire name.
    pub name: String,
    /// Result of the last health check of the backend. Takes precedence over the revival by a heartbeat.
    pub status: Status,
    /// Number of running inferences.
    pub in_flight: u32,
    /// Number of waiting inferences.
    pub queued: u32,
    /// Maximum number of concurrent inferences.
    pub max_concurrency: u32,
    /// Inferences that it wants beyond these, so that no slot is idle until the next one comes; left out if 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ahead: u32,
    /// Whether its owner has paused it; left out if false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// End of the pause, if it is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unset_members_are_left_out_except_visibility_and_status() {
        let request = RegisterRequest {
            provider_session_id: None,
            providers: vec![ProviderEntry {
                name: "a".into(),
                provider_type: "openai".into(),
                model: "m".into(),
                tier: None,
                description: None,
                pool_name: None,
                visibility: Visibility::default(),
                initial_status: Status::Active,
                timeout_seconds: None,
                allow_remote_urls: false,
                max_concurrency: None,
                context_length: None,
                max_output_tokens: None,
                capabilities: Capabilities::default(),
            }],
            agents: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"providers":[{"name":"a","type":"openai","model":"m","visibility":"private","initialStatus":"active"}]}"#
        );
    }

    #[test]
    fn a_heartbeat_to_a_classic_hub_has_only_the_session() {
        let beat = Heartbeat { provider_session_id: "s".into(), stream_id: None, providers: None };
        assert_eq!(serde_json::to_string(&beat).unwrap(), r#"{"providerSessionId":"s"}"#);
    }

    /// F89: a newer peer can send more members.
    #[test]
    fn unknown_keys_are_ignored() {
        let text = r#"{"providers":[{"name":"a","type":"t","model":"m","new":{"x":1}}],"later":true}"#;
        let request: RegisterRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.providers[0].initial_status, Status::Active);
    }

    /// A23: a tree of an answer of 4 MiB can have hundreds of MiB.
    #[test]
    fn of_any_json_the_first_texts_are_read() {
        let warnings = |json: &str| {
            let text = format!(r#"{{"providerSessionId":"s","warnings":{json},"llms":[]}}"#);
            let answer: RegisterAnswer = serde_json::from_str(&text).unwrap();
            answer.warnings.iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(warnings(r#"["a", {"b":["c"]}, 7, null, "d\n\"", []]"#), ["a", "d\n\""]);
        for json in ["null", "{}", r#"{"a":"b"}"#, r#""text""#, "7", "[[\"a\"]]"] {
            assert!(warnings(json).is_empty(), "{json}");
        }
        let many = format!("[{}0]", r#""w",{},"#.repeat(1000));
        assert_eq!(warnings(&many), ["w"; 16]);
        let beaten: HeartbeatAnswer =
            serde_json::from_str(r#"{"ok":true,"deleted":["gone","Not A Name",{}]}"#).unwrap();
        assert_eq!(beaten.deleted().collect::<Vec<_>>(), ["gone"]);
        assert!(serde_json::from_str::<HeartbeatAnswer>("{}").unwrap().deleted().next().is_none());
    }
}
