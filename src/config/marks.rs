//! What tells one reading of the configuration from the next: a number for each LLM and agent that is published.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use actors::{AgentConfig, ProviderConfig, options::BackendConfig};
use serde_json::{Value, json};

/// By what it is and its name at the hub.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks(BTreeMap<String, u64>);

impl Marks {
    /// An LLM, with all that its file says of it and the key that a variable holds.
    pub(super) fn add_llm(&mut self, config: &ProviderConfig, value: &Value) {
        let key = match &config.backend {
            BackendConfig::OpenAi(http) | BackendConfig::Anthropic(http) => http.api_key.as_ref(),
            _ => None,
        };
        let name = format!("LLM {}", config.wire_name);
        self.0.insert(name, number(value, key.map_or("", |key| key.reveal())));
    }

    /// An agent.
    pub(super) fn add_agent(&mut self, config: &AgentConfig, value: &Value) {
        self.0.insert(format!("agent {}", config.wire_name), number(value, ""));
    }

    /// What a later reading added, changed and removed.
    pub(crate) fn changes(&self, later: &Self) -> Value {
        let names = |of: &Self, wanted: &dyn Fn(&String, &u64) -> bool| -> Vec<String> {
            of.0.iter().filter(|(name, mark)| wanted(name, mark)).map(|(name, _)| name.clone()).collect()
        };
        json!({
            "added": names(later, &|name, _| !self.0.contains_key(name)),
            "changed": names(later, &|name, mark| self.0.get(name).is_some_and(|before| before != mark)),
            "removed": names(self, &|name, _| !later.0.contains_key(name)),
        })
    }
}

fn number(value: &Value, secret: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (value.to_string(), secret).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_changed_and_removed_is_told_by_name() {
        let marks = |entries: &[(&str, u64)]| {
            Marks(entries.iter().map(|&(name, mark)| (name.to_owned(), mark)).collect())
        };
        let before = marks(&[("LLM a", 1), ("LLM b", 2), ("agent c", 3)]);
        let after = marks(&[("LLM a", 1), ("LLM b", 5), ("agent d", 3)]);
        assert_eq!(
            before.changes(&after),
            json!({ "added": ["agent d"], "changed": ["LLM b"], "removed": ["agent c"] })
        );
        assert_eq!(after.changes(&after), json!({ "added": [], "changed": [], "removed": [] }));
    }
}
