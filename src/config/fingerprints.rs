//! Fingerprints of the published LLMs and agents, to tell what a reload changed.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use actors::{AgentConfig, ProviderConfig, options::BackendConfig};
use serde_json::{Value, json};

/// Hashes of LLMs and agents by kind and name at the hub, such as `LLM qwen`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fingerprints(BTreeMap<String, u64>);

impl Fingerprints {
    /// Adds an LLM: its part of the file, and the key that an environment variable holds.
    pub(super) fn add_llm(&mut self, config: &ProviderConfig, value: &Value) {
        let key = match &config.backend {
            BackendConfig::OpenAi(http) | BackendConfig::Anthropic(http) => http.api_key.as_ref(),
            BackendConfig::Mock(_) | BackendConfig::Custom(_) => None,
        };
        self.0.insert(format!("LLM {}", config.wire_name), hash(value, key.map_or("", |key| key.reveal())));
    }

    pub(super) fn add_agent(&mut self, config: &AgentConfig, value: &Value) {
        self.0.insert(format!("agent {}", config.wire_name), hash(value, ""));
    }

    /// Names that `later` adds, changes and removes.
    pub(crate) fn changes(&self, later: &Self) -> Value {
        let names = |of: &Self, wanted: &dyn Fn(&String, &u64) -> bool| -> Vec<String> {
            of.0.iter().filter(|(name, hash)| wanted(name, hash)).map(|(name, _)| name.clone()).collect()
        };
        json!({
            "added": names(later, &|name, _| !self.0.contains_key(name)),
            "changed": names(later, &|name, hash| self.0.get(name).is_some_and(|before| before != hash)),
            "removed": names(self, &|name, _| !later.0.contains_key(name)),
        })
    }
}

fn hash(value: &Value, secret: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (value.to_string(), secret).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_listed_by_name() {
        let fingerprints = |entries: &[(&str, u64)]| {
            Fingerprints(entries.iter().map(|&(name, hash)| (name.to_owned(), hash)).collect())
        };
        let before = fingerprints(&[("LLM a", 1), ("LLM b", 2), ("agent c", 3)]);
        let after = fingerprints(&[("LLM a", 1), ("LLM b", 5), ("agent d", 3)]);
        assert_eq!(
            before.changes(&after),
            json!({ "added": ["agent d"], "changed": ["LLM b"], "removed": ["agent c"] })
        );
        assert_eq!(after.changes(&after), json!({ "added": [], "changed": [], "removed": [] }));
    }
}
