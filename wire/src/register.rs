//! `POST /_provider-register` (SPEC.md section 3.1), heartbeat and drain.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::row::{Status, Tier, Timestamp, Visibility};

/// What a publisher registers: its whole set, atomically.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterRequest {
    /// The sticky id, when one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_session_id: Option<String>,
    /// The LLMs.
    #[serde(default)]
    pub providers: Vec<ProviderEntry>,
    /// The agents; left out when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentEntry>,
}

/// One LLM of a register call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderEntry {
    /// The wire name.
    pub name: String,
    /// `openai`, `vllm`, `ollama`, `anthropic`, …
    #[serde(rename = "type")]
    pub provider_type: String,
    /// The model that callers get.
    pub model: String,
    /// Hint for choosing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The pool it joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_name: Option<String>,
    /// Always sent; an older registrar that leaves it out means the default.
    #[serde(default)]
    pub visibility: Visibility,
    /// `active` or `hibernating`; always sent by us.
    #[serde(default = "active")]
    pub initial_status: Status,
    /// Seconds of silence after which the publisher gives its backend up; left out where it is the default, 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u32>,
    /// Whether those who are not its owner may have its backend fetch addresses, run tools and keep answers; left out
    /// where they may not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_remote_urls: bool,
    /// Inferences that may run at once; left out where it is the default, 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
}

fn active() -> Status {
    Status::Active
}

/// One agent of a register call.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentEntry {
    /// The wire name.
    pub name: String,
    /// The wire name of its LLM.
    pub llm_name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Put before the caller's messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Request parameters that the caller did not give: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_params: Option<Box<RawValue>>,
    /// Free data: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extras: Option<Box<RawValue>>,
    /// Always sent.
    #[serde(default)]
    pub visibility: Visibility,
}

/// What a registrar needs of the answer; the rest is for people.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisterAnswer {
    /// Replaces ours on disk and on the next channel.
    pub provider_session_id: String,
    /// What a hub of ours has to say about a call that it took: a list of texts. Of another hub it may be anything.
    #[serde(default)]
    pub warnings: serde_json::Value,
}

impl RegisterAnswer {
    /// Most texts that are taken: one for each LLM would be many already.
    const MOST_WARNINGS: usize = 16;

    /// The warnings, where it is texts that stand there.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let texts = self.warnings.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        texts.take(Self::MOST_WARNINGS)
    }
}

/// What a registrar may learn from the answer to a heartbeat; of another hub it may be anything.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct HeartbeatAnswer {
    /// The names of rows and agents that an admin has deleted since the session registered them.
    #[serde(default)]
    deleted: serde_json::Value,
}

impl HeartbeatAnswer {
    /// The names, where it is names that stand there.
    pub fn deleted(&self) -> impl Iterator<Item = &str> {
        let texts = self.deleted.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        texts.filter(|name| crate::names::check(name).is_ok()).take(RegisterAnswer::MOST_WARNINGS)
    }
}

/// `POST /_provider-heartbeat`, and with the id alone `POST /_provider-drain`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Whose heart beats.
    pub provider_session_id: String,
    /// The channel that the publisher holds (feature `status`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// State of each provider (feature `status`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub providers: Option<Vec<ProviderStatus>>,
}

/// State of one provider (feature `status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// The wire name.
    pub name: String,
    /// From a health check of the backend. Wins over revival.
    pub status: Status,
    /// Inferences that run.
    pub in_flight: u32,
    /// Inferences that wait.
    pub queued: u32,
    /// Inferences that may run at once.
    pub max_concurrency: u32,
    /// Whether its owner has paused it; left out where that is not so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The end of the pause, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_is_sent_but_visibility_and_initial_status_always() {
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
            }],
            agents: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"providers":[{"name":"a","type":"openai","model":"m","visibility":"private","initialStatus":"active"}]}"#
        );
    }

    #[test]
    fn a_heartbeat_to_a_classic_hub_carries_the_session_and_nothing_else() {
        let beat = Heartbeat { provider_session_id: "s".into(), stream_id: None, providers: None };
        assert_eq!(serde_json::to_string(&beat).unwrap(), r#"{"providerSessionId":"s"}"#);
    }

    /// F89: a newer peer may say more.
    #[test]
    fn unknown_keys_are_ignored() {
        let text = r#"{"providers":[{"name":"a","type":"t","model":"m","new":{"x":1}}],"later":true}"#;
        let request: RegisterRequest = serde_json::from_str(text).unwrap();
        assert_eq!(request.providers[0].initial_status, Status::Active);
    }
}
