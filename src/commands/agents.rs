//! Agents over LLMs that this configuration does not publish: whether the hub has those.

use serde_json::Value;

use crate::config::{Elsewhere, Finding};

/// The agents whose LLM is neither an LLM nor a pool of `llms`, the hub's list.
pub(super) fn without_llm(elsewhere: &[Elsewhere], llms: &Value) -> Vec<Finding> {
    let rows = llms.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_known = |name: &str| rows.iter().any(|row| row["name"] == name || row["poolName"] == name);
    elsewhere.iter().filter(|agent| !is_known(&agent.llm)).map(finding).collect()
}

/// What is wrong with one.
fn finding(agent: &Elsewhere) -> Finding {
    let llm = &agent.llm;
    let text = if agent.is_kept_back {
        format!(
            "'{llm}' is not published, and the hub has no LLM of that name; give the provider \"publish\": true"
        )
    } else {
        format!(
            "'{llm}' is published neither here nor at the hub, as far as this token sees; \
             expected the name of a provider with \"publish\": true, or of an LLM or a pool at the hub"
        )
    };
    Finding { key: agent.key.clone(), text }
}

/// What is to be said of them where the hub cannot be asked.
pub(super) fn unchecked(agent: &Elsewhere) -> String {
    format!(
        "{}: '{}' is not published here; whether the hub has it cannot be asked now",
        agent.key, agent.llm
    )
}
