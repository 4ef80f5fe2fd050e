//! What the hub's list of LLMs says of this configuration: whether it has the LLMs of agents that are not published
//! here, and which LLMs wait to be let into a pool.

use serde_json::Value;

use crate::config::{Elsewhere, Finding};

/// The agents whose LLM is neither an LLM nor a pool of `llms`, the hub's list.
pub(super) fn without_llm(elsewhere: &[Elsewhere], llms: &Value) -> Vec<Finding> {
    let rows = llms.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_known = |name: &str| rows.iter().any(|row| row["name"] == name || row["poolName"] == name);
    elsewhere.iter().filter(|agent| !is_known(&agent.llm)).map(finding).collect()
}

/// What public agents over private LLMs at the hub make visible. The LLMs are the caller's own, or an admin sees them.
pub(super) fn visible_through(elsewhere: &[Elsewhere], llms: &Value) -> Vec<Finding> {
    let rows = llms.as_array().map(Vec::as_slice).unwrap_or_default();
    let finding = |agent: &Elsewhere| {
        let name = agent.public_name.as_ref()?;
        let llm = agent.llm.as_str();
        let named = rows.iter().find(|row| row["name"] == llm);
        let row = named
            .or_else(|| rows.iter().find(|row| row["poolName"] == llm && row["visibility"] == "private"))?;
        (row["visibility"] == "private").then(|| Finding {
            key: agent.key.clone(),
            text: format!(
                "'{llm}' is private at the hub, and '{name}' is public: if both are yours, everybody at the hub can use \
                 it through '{name}'; if not, '{name}' serves only who sees '{llm}'"
            ),
        })
    };
    elsewhere.iter().filter_map(finding).collect()
}

/// Which of the LLMs that are published from here under `names` wait to be let into another user's pool, and for whom.
pub(super) fn waiting<'a>(names: impl Iterator<Item = &'a str>, llms: &Value) -> Vec<String> {
    let rows = llms.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name)?;
        Some(wire::texts::waits_for(name, row["poolName"].as_str()?, row["waitsFor"].as_str()?))
    };
    names.filter_map(text).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_llm_that_waits_is_told_with_the_pool_and_its_owner() {
        let llms = json!([
            { "name": "mine", "poolName": "pool", "waitsFor": "alice" },
            { "name": "in", "poolName": "pool" },
            { "name": "other", "poolName": "pool", "waitsFor": "alice" },
        ]);
        let told = waiting(["mine", "in", "nowhere"].into_iter(), &llms);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("LLM mine waits for alice") && told[0].contains("pool admit pool mine"));
    }

    #[test]
    fn a_public_agent_over_a_private_llm_at_the_hub_is_told_and_others_are_not() {
        let llms = json!([
            { "name": "mine", "visibility": "private" },
            { "name": "other", "visibility": "private", "poolName": "pool" },
            { "name": "open", "visibility": "public", "poolName": "open-pool" },
        ]);
        let told = |llm: &str, public: bool| {
            let agent = Elsewhere {
                key: "agents[0].llm".to_owned(),
                llm: llm.to_owned(),
                is_kept_back: false,
                public_name: public.then(|| "clerk".to_owned()),
            };
            visible_through(&[agent], &llms).len()
        };
        for (llm, public, expected) in [
            ("mine", true, 1),
            ("pool", true, 1),
            ("mine", false, 0),
            ("open", true, 0),
            ("open-pool", true, 0),
            ("nowhere", true, 0),
        ] {
            assert_eq!(told(llm, public), expected, "{llm} {public}");
        }
    }
}
