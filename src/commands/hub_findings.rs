//! Findings about the configuration from the hub's list of LLMs.

use serde_json::Value;

use super::cells::rows;
use crate::config::{Report, UnresolvedAgent};

/// Findings about agents whose LLM is not published by the configuration: an LLM that the hub does not have is an error.
/// Without `llms`, the hub's list, each agent is a warning.
pub(super) fn unresolved_agents(agents: &[UnresolvedAgent], llms: Option<&Value>) -> Report {
    let mut report = Report::default();
    for UnresolvedAgent { key, llm, has_unpublished_provider, public_name } in agents {
        let Some(llms) = llms else {
            let text = format!("'{llm}' is not published here; whether the hub has it cannot be asked now");
            report.warn(key, text);
            continue;
        };
        let row = rows(llms).iter().find(|row| row["name"] == llm.as_str());
        let mut members = rows(llms).iter().filter(|row| row["poolName"] == llm.as_str()).peekable();
        let exists = row.is_some() || members.peek().is_some();
        let private = row.or_else(|| members.find(|row| row["visibility"] == "private"));
        let is_private = private.is_some_and(|row| row["visibility"] == "private");
        match public_name {
            _ if !exists && *has_unpublished_provider => report.error(
                key,
                format!(
                    "'{llm}' is not published, and the hub has no LLM of that name; give the provider \"publish\": true"
                ),
            ),
            _ if !exists => report.error(
                key,
                format!(
                    "'{llm}' is published neither here nor at the hub, as far as this token sees; \
                     expected the name of a provider with \"publish\": true, or of an LLM or a pool at the hub"
                ),
            ),
            Some(name) if is_private => report.warn(
                key,
                format!(
                    "'{llm}' is private at the hub, and '{name}' is public: if both are yours, everybody at the hub can use \
                     it through '{name}'; if not, '{name}' serves only who sees '{llm}'"
                ),
            ),
            _ => {}
        }
    }
    report
}

/// Texts about those LLMs among `names` that wait for admission to another user's pool.
pub(super) fn waiting<'a>(names: impl Iterator<Item = &'a str>, llms: &Value) -> Vec<String> {
    let text = |name: &str| waiting_text(rows(llms).iter().find(|row| row["name"] == name)?);
    names.filter_map(text).collect()
}

/// Text about a row that waits for admission to a pool.
pub(super) fn waiting_text(row: &Value) -> Option<String> {
    Some(wire::texts::waits_for(row["name"].as_str()?, row["poolName"].as_str()?, row["waitsFor"].as_str()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_waiting_llm_is_listed_with_its_pool_and_the_owner_of_the_pool() {
        let llms = json!([
            { "name": "mine", "poolName": "pool", "waitsFor": "alice" },
            { "name": "in", "poolName": "pool" },
            { "name": "other", "poolName": "pool", "waitsFor": "alice" },
        ]);
        let texts = waiting(["mine", "in", "nowhere"].into_iter(), &llms);
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(texts[0].contains("LLM mine waits for alice") && texts[0].contains("pool admit pool mine"));
    }

    #[test]
    fn a_public_agent_over_a_private_llm_at_the_hub_is_a_warning() {
        let llms = json!([
            { "name": "mine", "visibility": "private" },
            { "name": "other", "visibility": "private", "poolName": "pool" },
            { "name": "open", "visibility": "public", "poolName": "open-pool" },
        ]);
        let warnings = |llm: &str, public: bool| {
            let agent = UnresolvedAgent {
                key: "agents[0].llm".to_owned(),
                llm: llm.to_owned(),
                has_unpublished_provider: false,
                public_name: public.then(|| "clerk".to_owned()),
            };
            unresolved_agents(&[agent], Some(&llms)).warnings.len()
        };
        for (llm, public, expected) in [
            ("mine", true, 1),
            ("pool", true, 1),
            ("mine", false, 0),
            ("open", true, 0),
            ("open-pool", true, 0),
            ("nowhere", true, 0),
        ] {
            assert_eq!(warnings(llm, public), expected, "{llm} {public}");
        }
    }
}
