//! The request members that the known APIs define.
//!
//! A request to another user's backend keeps only these members. A deny list would never be complete: an unlisted member may
//! be the configuration of a server or of a gateway.

use std::sync::LazyLock;

/// `known_members.txt`: one name a line, sorted, in the form of [`MemberName::letters`](super::name::MemberName::letters).
///
/// Sources are the APIs of OpenAI and Anthropic, the servers that implement them (`vLLM`, `SGLang`, llama.cpp, Ollama, LM Studio,
/// TGI, `TabbyAPI`, Aphrodite, text-generation-webui, `KoboldCpp`, MLX, hosted ones), and embedding and ranking servers. A listed
/// member can still be refused by its role. `keep_alive` is missing on purpose: the owner decides how long a model stays loaded.
static KNOWN: LazyLock<Vec<&[u8]>> =
    LazyLock::new(|| include_str!("known_members.txt").lines().map(str::as_bytes).collect());

/// Whether an API defines a request member with this normalized name.
pub(super) fn is_known(letters: &[u8]) -> bool {
    KNOWN.binary_search(&letters).is_ok()
}

#[cfg(test)]
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    include_str!("known_members.txt").lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_members_are_sorted_and_normalized() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        for name in known() {
            let is_plain =
                |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '.';
            assert!(name.chars().all(is_plain), "{name}");
        }
    }
}
