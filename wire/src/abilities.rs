//! What a model can do, as far as it is known (SPEC.md section 3.1).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest number of tokens that counts as known: a hundred times the longest context of today.
pub const MAX_TOKENS: u32 = 1_000_000_000;

/// Limits and capabilities of a model at its server. `None` means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Tokens of prompt and answer together that the server accepts for one call.
    pub context_length: Option<u32>,
    /// Tokens of the longest answer.
    pub max_output_tokens: Option<u32>,
    /// What else is known of it.
    pub capabilities: Capabilities,
}

/// What a model accepts and returns; each left out if it is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capabilities {
    /// Calls the functions that a request offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<bool>,
    /// Accepts images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<bool>,
    /// Returns its reasoning apart from its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<bool>,
    /// Embeds texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<bool>,
}

impl Abilities {
    /// Nothing known.
    pub const NONE: Self = Self {
        context_length: None,
        max_output_tokens: None,
        capabilities: Capabilities { tools: None, vision: None, reasoning: None, embeddings: None },
    };

    /// The known values of `self`, and those of `other` for the rest.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            context_length: self.context_length.or(other.context_length),
            max_output_tokens: self.max_output_tokens.or(other.max_output_tokens),
            capabilities: self.capabilities.zip(other.capabilities, Option::or),
        }
    }

    /// What both can do: the smaller limits and the common capabilities. A value that is unknown for one may be smaller there,
    /// so it is unknown for both.
    #[must_use]
    pub fn both(self, other: Self) -> Self {
        let least = |a: Option<u32>, b: Option<u32>| a.zip(b).map(|(a, b)| a.min(b));
        Self {
            context_length: least(self.context_length, other.context_length),
            max_output_tokens: least(self.max_output_tokens, other.max_output_tokens),
            capabilities: self.capabilities.zip(other.capabilities, |a, b| match (a, b) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            }),
        }
    }
}

impl Capabilities {
    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    fn zip(self, other: Self, value: impl Fn(Option<bool>, Option<bool>) -> Option<bool>) -> Self {
        Self {
            tools: value(self.tools, other.tools),
            vision: value(self.vision, other.vision),
            reasoning: value(self.reasoning, other.reasoning),
            embeddings: value(self.embeddings, other.embeddings),
        }
    }

    fn named(self) -> [(&'static str, Option<bool>); 4] {
        [
            ("tools", self.tools),
            ("vision", self.vision),
            ("reasoning", self.reasoning),
            ("embeddings", self.embeddings),
        ]
    }
}

/// `context 8192, answer 4096, tools, no vision`; empty if nothing is known.
impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [("context", self.context_length), ("answer", self.max_output_tokens)];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some(format!("{name} {}", limit?)));
        let capabilities = self.capabilities.named().into_iter();
        let capabilities = capabilities
            .filter_map(|(name, has)| Some(if has? { name.to_owned() } else { format!("no {name}") }));
        f.write_str(&limits.chain(capabilities).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(context: u32, tools: Option<bool>, vision: Option<bool>) -> Abilities {
        let capabilities = Capabilities { tools, vision, ..Capabilities::default() };
        Abilities { context_length: Some(context), max_output_tokens: None, capabilities }
    }

    #[test]
    fn what_both_can_do_is_the_least_of_each() {
        let (large, small) = (some(8192, Some(true), Some(true)), some(4096, Some(true), Some(false)));
        assert_eq!(large.both(small), some(4096, Some(true), Some(false)));
        assert_eq!(small.both(large), some(4096, Some(true), Some(false)));
    }

    #[test]
    fn what_one_does_not_know_is_unknown_for_both() {
        let known = some(8192, Some(true), Some(false));
        let capabilities = Capabilities { vision: Some(false), ..Capabilities::default() };
        let expected = Abilities { capabilities, ..Abilities::default() };
        assert_eq!(known.both(Abilities::default()), expected);
    }

    #[test]
    fn a_known_value_stands_above_another() {
        let set = some(1024, Some(false), None);
        assert_eq!(set.or(some(8192, Some(true), Some(true))), some(1024, Some(false), Some(true)));
    }

    #[test]
    fn abilities_are_shown_as_a_list() {
        assert_eq!(some(8192, Some(true), Some(false)).to_string(), "context 8192, tools, no vision");
        assert_eq!(Abilities::default().to_string(), "");
    }
}
