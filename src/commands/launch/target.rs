//! The model that an agent is started on, and what the user should know about it.

use std::path::PathBuf;

use super::model::Abilities;
use crate::cli::CodingAgent;

/// Context length in tokens below which an agent is of little use: its own prompt and tools take 10,000 to 20,000.
const SMALL_CONTEXT: u64 = 32_000;
/// Context length that Claude Code assumes for names that begin with `claude-`, whatever it is told.
const CLAUDE_CONTEXT: u64 = 200_000;
/// Most tokens of one answer: what Claude Code and opencode use for a model that they do not know.
const MAX_OUTPUT: u64 = 32_000;

/// The model and its hub.
pub(super) struct Target {
    /// URL of the hub, without `/v1`.
    pub(super) hub: String,
    pub(super) model: String,
    pub(super) abilities: Abilities,
    pub(super) ca_file: Option<PathBuf>,
    /// The user's own `OPENCODE_CONFIG_CONTENT`.
    pub(super) opencode_config: Option<String>,
    /// Whether an admin's settings of Qwen Code exist on this machine, which are not replaced.
    pub(super) has_qwen_settings: bool,
}

impl Target {
    pub(super) fn base_url(&self) -> String {
        format!("{}/v1", self.hub.trim_end_matches('/'))
    }

    /// Context length in tokens.
    pub(super) fn context(&self) -> Option<u64> {
        self.abilities.context
    }

    /// Tokens for one answer: a quarter of the context, since vLLM refuses a request whose prompt and answer together could
    /// be longer than the context, and at most the model's own limit. `None` if neither is known.
    pub(super) fn output(&self) -> Option<u64> {
        let of_context = self.context().map(|context| (context / 4).min(MAX_OUTPUT));
        // An agent does not need more tokens than usual because the model could write more.
        let own = self.abilities.max_output.map(|most| most.min(MAX_OUTPUT));
        of_context.into_iter().chain(own).min()
    }
}

/// What the user should know before the agent starts.
pub(super) fn warnings(agent: CodingAgent, target: &Target) -> Vec<String> {
    let mut warnings = Vec::new();
    if target.abilities.tools == Some(false) {
        warnings.push(format!(
            "{} calls no tools, and coding agents read and change files with them; if it does call them, set \
             \"capabilities\": {{ \"tools\": true }} of its provider",
            target.model
        ));
    }
    let Some(context) = target.context() else { return warnings };
    if context < SMALL_CONTEXT {
        warnings.push(format!(
            "{} has a context of {context} tokens; coding agents need {SMALL_CONTEXT} or more, since their own prompt takes \
             10,000 to 20,000",
            target.model
        ));
    }
    if agent == CodingAgent::Claude && target.model.starts_with("claude-") && context < CLAUDE_CONTEXT {
        warnings.push(format!(
            "Claude Code takes every model whose name begins with 'claude-' for one of {CLAUDE_CONTEXT} tokens, and {} has \
             {context}: give the LLM's own name",
            target.model
        ));
    }
    warnings
}

/// A target for tests.
#[cfg(test)]
pub(super) fn target(model: &str, context: Option<u64>) -> Target {
    Target {
        hub: "https://h/".to_owned(),
        model: model.to_owned(),
        abilities: Abilities { context, ..Abilities::default() },
        ca_file: None,
        opencode_config: None,
        has_qwen_settings: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_context_is_a_warning() {
        let warned = |model: &str, context| warnings(CodingAgent::Claude, &target(model, context));
        assert!(warned("qwen", Some(31_999))[0].contains("qwen has a context of 31999 tokens"));
        assert_eq!(warned("qwen", Some(32_000)), [""; 0]);
        assert_eq!(warned("qwen", None), [""; 0]);
    }

    #[test]
    fn claude_code_is_not_told_the_context_of_a_name_that_it_knows() {
        let target = target("claude-qwen", Some(65_536));
        assert!(warnings(CodingAgent::Claude, &target)[0].contains("give the LLM's own name"));
        assert_eq!(warnings(CodingAgent::Codex, &target), [""; 0]);
    }

    #[test]
    fn a_model_that_calls_no_tools_is_a_warning() {
        for (tools, is_warned) in [(Some(false), true), (Some(true), false), (None, false)] {
            let mut target = target("qwen", Some(65_536));
            target.abilities.tools = tools;
            let warned = warnings(CodingAgent::Codex, &target);
            assert_eq!(
                warned.iter().any(|text| text.contains("qwen calls no tools")),
                is_warned,
                "{warned:?}"
            );
        }
    }
}
