//! The request members that the known APIs define.
//!
//! A request to another user's backend keeps only these members. A deny list would never be complete: an unlisted member may
//! be the configuration of a server or of a gateway. Names are compared exactly: no API defines another spelling.

use std::sync::LazyLock;

use super::name::MemberName;
use super::name_set::NameSet;
use super::object_type::unquoted;

/// `known_members.txt`: one name a line, sorted, as the APIs spell it.
///
/// Sources are the APIs of OpenAI and Anthropic, the servers that implement them (`vLLM`, `SGLang`, llama.cpp, Ollama, LM Studio,
/// TGI, `TabbyAPI`, Aphrodite, text-generation-webui, `KoboldCpp`, MLX, hosted ones), and embedding and ranking servers. A listed
/// member can still be refused by its role. `keep_alive` is missing on purpose: the owner decides how long a model stays loaded.
const KNOWN_MEMBERS: &str = include_str!("known_members.txt");

/// The names of [`KNOWN_MEMBERS`].
static KNOWN: LazyLock<NameSet<&str>> = LazyLock::new(|| NameSet::new(KNOWN_MEMBERS.lines()));

/// The names of [`KNOWN_MEMBERS`], normalized.
static NORMALIZED: LazyLock<NameSet<Vec<u8>>> = LazyLock::new(|| {
    let quoted = KNOWN_MEMBERS.lines().map(|name| format!("\"{name}\""));
    NameSet::new(quoted.map(|name| MemberName::of(name.as_bytes()).letters().to_vec()))
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

/// [`TEMPLATE_VARIABLES`], to look a name up.
static VARIABLES: LazyLock<NameSet<&str>> = LazyLock::new(|| NameSet::new(TEMPLATE_VARIABLES));

/// Whether an API defines a request member of this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(name.as_bytes())
}

/// Whether a name of the metadata is one that agents send and no gateway acts on: of `metadata`, Claude Code's `user_id`; of
/// `client_metadata`, Codex's installation. `LiteLLM` takes hosts, keys and callbacks under dozens of other names.
pub(super) fn is_metadata_name(quoted: &[u8]) -> bool {
    matches!(&*unquoted(quoted), b"user_id" | b"x-codex-installation-id")
}

/// Whether an API defines a request member of this name, given with its quotes.
pub(super) fn is_known_quoted(quoted: &[u8]) -> bool {
    KNOWN.contains(&unquoted(quoted))
}

/// Whether chat templates have a variable of this name, given with its quotes.
pub(super) fn is_template_variable(quoted: &[u8]) -> bool {
    VARIABLES.contains(&unquoted(quoted))
}

/// Whether these normalized letters are those of a known member. A server that ignores letter case would read its value.
pub(super) fn is_nearly_known(letters: &[u8]) -> bool {
    NORMALIZED.contains(letters)
}

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    KNOWN_MEMBERS.lines()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the sets replace: a search that compares.
    fn is_known_by_search(quoted: &[u8]) -> bool {
        let names: Vec<_> = known().collect();
        std::str::from_utf8(&unquoted(quoted)).is_ok_and(|name| names.binary_search(&name).is_ok())
    }

    fn is_nearly_known_by_search(letters: &[u8]) -> bool {
        known().any(|name| MemberName::of(format!("\"{name}\"").as_bytes()).letters() == letters)
    }

    fn is_variable_by_search(quoted: &[u8]) -> bool {
        std::str::from_utf8(&unquoted(quoted)).is_ok_and(|name| TEMPLATE_VARIABLES.contains(&name))
    }

    /// Known names with a few letters changed, in escapes, and any others.
    fn any_name() -> impl Strategy<Value = String> {
        let names: Vec<_> = known().chain(TEMPLATE_VARIABLES).collect();
        let letter = "[a-zA-Z_.ſK\u{212a}É]?";
        let changed = (prop::sample::select(names), any::<prop::sample::Index>(), 0..2_usize, letter)
            .prop_map(|(name, at, removed, added)| {
                let at = at.index(name.len());
                format!("{}{added}{}", &name[..at], &name[(at + removed).min(name.len())..])
            });
        let name = prop_oneof![3 => changed, 1 => "[a-zA-Z_\u{17f}\u{212a}É\"\\\\]{0,45}"];
        (name, any::<u64>()).prop_map(|(name, escaped)| {
            let text = crate::json::quote(&name);
            let letters = text[1..text.len() - 1].chars().enumerate().map(|(index, letter)| {
                let is_plain = letter.is_ascii_alphanumeric() || letter == '_';
                if is_plain && escaped >> (index % 64) & 7 == 7 {
                    format!("\\u{:04x}", u32::from(letter))
                } else {
                    letter.to_string()
                }
            });
            // No escape is broken up: a letter behind a backslash stays as it is.
            let inner: String =
                if text.contains('\\') { text[1..text.len() - 1].into() } else { letters.collect() };
            format!("\"{inner}\"")
        })
    }

    proptest! {
        #[test]
        fn sets_have_the_names_that_a_search_finds(quoted in any_name()) {
            let quoted = quoted.as_bytes();
            let name = MemberName::of(quoted);
            prop_assert_eq!(is_known_quoted(quoted), is_known_by_search(quoted));
            prop_assert_eq!(is_nearly_known(name.letters()), is_nearly_known_by_search(name.letters()));
            prop_assert_eq!(is_template_variable(quoted), is_variable_by_search(quoted));
            // The scanner looks no other name up among the exact ones.
            prop_assert!(name.is_nearly_known() || !is_known_quoted(quoted));
        }
    }

    #[test]
    fn sets_find_every_name_in_a_few_comparisons() {
        for name in known() {
            let quoted = format!("\"{name}\"");
            assert!(is_known(name) && MemberName::of(quoted.as_bytes()).is_nearly_known(), "{name}");
        }
        for name in TEMPLATE_VARIABLES {
            assert!(is_template_variable(format!("\"{name}\"").as_bytes()), "{name}");
        }
        let longest = [KNOWN.longest_run(), NORMALIZED.longest_run(), VARIABLES.longest_run()];
        assert!(longest.iter().all(|run| *run <= 6), "{longest:?}");
    }

    #[test]
    fn known_names_are_sorted_and_plain() {
        assert!(known().is_sorted_by(|a, b| a < b));
        assert!(TEMPLATE_VARIABLES.is_sorted_by(|a, b| a < b));
        for name in known().chain(TEMPLATE_VARIABLES) {
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
            assert!(name.chars().all(is_plain), "{name}");
        }
    }
}
