//! The request members that the known APIs define.
//!
//! A request to another user's backend keeps only these members. A deny list would never be complete: an unlisted member may
//! be the configuration of a server or of a gateway. Names are compared exactly: no API defines another spelling.

use std::sync::LazyLock;

use super::name::MemberName;
use super::object_type::unquoted;

/// `known_members.txt`: one name a line, sorted, as the APIs spell it.
///
/// Sources are the APIs of OpenAI and Anthropic, the servers that implement them (`vLLM`, `SGLang`, llama.cpp, Ollama, LM Studio,
/// TGI, `TabbyAPI`, Aphrodite, text-generation-webui, `KoboldCpp`, MLX, hosted ones), and embedding and ranking servers. A listed
/// member can still be refused by its role. `keep_alive` is missing on purpose: the owner decides how long a model stays loaded.
static KNOWN: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("known_members.txt").lines().collect());

/// The names of [`KNOWN`], normalized and sorted.
static NORMALIZED: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let quoted = KNOWN.iter().map(|name| format!("\"{name}\""));
    let mut names: Vec<_> = quoted.map(|name| MemberName::of(name.as_bytes()).letters().to_vec()).collect();
    names.sort_unstable();
    names
});

/// The variables that the chat templates of published models read, sorted. Any other name may be a parameter of the function that
/// renders the template (`tokenize`, `padding`, `messages`).
const TEMPLATE_VARIABLES: [&str; 39] = [
    "add_generation_prompt",
    "add_vision_id",
    "builtin_tools",
    "citation_mode",
    "citation_options",
    "clear_thinking",
    "continue_final_message",
    "controls",
    "custom_instructions",
    "custom_tools",
    "date_string",
    "documents",
    "enable_thinking",
    "enable_thoughts",
    "force_nonempty_content",
    "grounding",
    "include_reasoning",
    "interleaved_thinking",
    "keep_all_reasoning",
    "low_effort",
    "model_identity",
    "preserve_thinking",
    "python_tools",
    "reasoning",
    "reasoning_budget",
    "reasoning_effort",
    "reasoning_mode",
    "safety_mode",
    "skip_think",
    "system_prompt",
    "think",
    "thinking",
    "thinking_budget",
    "thinking_effort",
    "thinking_mode",
    "thinking_option",
    "tools_in_user_message",
    "truncate_history_thinking",
    "xml_tools",
];

/// Whether an API defines a request member of this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// Whether an API defines a request member of this name, given with its quotes.
pub(super) fn is_known_quoted(quoted: &[u8]) -> bool {
    std::str::from_utf8(&unquoted(quoted)).is_ok_and(is_known)
}

/// Whether chat templates have a variable of this name, given with its quotes.
pub(super) fn is_template_variable(quoted: &[u8]) -> bool {
    std::str::from_utf8(&unquoted(quoted)).is_ok_and(|name| TEMPLATE_VARIABLES.binary_search(&name).is_ok())
}

/// Whether these normalized letters are those of a known member. A server that ignores letter case would read its value.
pub(super) fn is_nearly_known(letters: &[u8]) -> bool {
    NORMALIZED.binary_search_by(|name| name.as_slice().cmp(letters)).is_ok()
}

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    include_str!("known_members.txt").lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_sorted_and_plain() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        assert!(TEMPLATE_VARIABLES.is_sorted_by(|a, b| a < b));
        for name in known().chain(TEMPLATE_VARIABLES) {
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
            assert!(name.chars().all(is_plain), "{name}");
        }
    }
}
