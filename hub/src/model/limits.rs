//! What admins allow a user or a token: models, tokens a day, requests a minute and calls at a time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::UserId;

/// Most patterns of models in one limit: all are compared with each name of a list.
pub const MAX_PATTERNS: usize = 64;
/// Longest pattern, in bytes: a name's, and the `*`.
const MAX_PATTERN: usize = 101;

/// Whom a limit concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitOwner {
    /// A user, with all of its tokens.
    User(UserId),
    /// The token with this id.
    Token(String),
}

impl LimitOwner {
    /// The kind as the store has it, and the name or id.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Self::User(user) => ("user", user),
            Self::Token(id) => ("token", id),
        }
    }

    pub fn of_parts(kind: &str, id: String) -> Option<Self> {
        match kind {
            "user" => Some(Self::User(id)),
            "token" => Some(Self::Token(id)),
            _ => None,
        }
    }
}

/// Limits of a user or a token. What is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct CallLimits {
    pub models: Option<ModelPatterns>,
    /// Of a day in UTC, input and output together.
    pub tokens_per_day: Option<u64>,
    pub requests_per_minute: Option<u32>,
    pub max_concurrent: Option<u32>,
}

impl CallLimits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The limits of one user or token, as the store has them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct LimitRecord {
    pub owner: LimitOwner,
    pub limits: CallLimits,
}

impl LimitRecord {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let patterns = self.limits.models.iter().flat_map(ModelPatterns::as_slice);
        self.owner.parts().1.len() + patterns.map(String::len).sum::<usize>()
    }
}

/// Names of models; a `*` at the end of one stands for any rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPatterns(Arc<[String]>);

/// The texts are not names or patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "name 1 to {MAX_PATTERNS} LLMs, pools or agents; a name has up to 100 characters of a-z 0-9 . _ -, and may end in * for any rest"
)]
pub struct InvalidPatterns;

impl ModelPatterns {
    /// Checks patterns. `None` if they match all names, so that nothing is limited.
    pub fn new(mut patterns: Vec<String>) -> Result<Option<Self>, InvalidPatterns> {
        let is_name =
            |stem: &str| stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let is_pattern = |pattern: &String| {
            let stem = pattern.strip_suffix('*').unwrap_or(pattern);
            (1..=MAX_PATTERN).contains(&pattern.len()) && stem.len() < MAX_PATTERN && is_name(stem)
        };
        if !(1..=MAX_PATTERNS).contains(&patterns.len()) || !patterns.iter().all(is_pattern) {
            return Err(InvalidPatterns);
        }
        patterns.sort_unstable();
        patterns.dedup();
        let is_all = patterns.iter().any(|pattern| pattern == "*");
        Ok((!is_all).then(|| Self(patterns.into())))
    }

    /// Whether one of them matches the name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(stem) => name.starts_with(stem),
            None => pattern == name,
        })
    }

    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The patterns in one text, for the store: no pattern has a comma.
    pub fn to_text(&self) -> String {
        self.0.join(",")
    }

    pub fn of_text(text: &str) -> Option<Self> {
        Self::new(text.split(',').map(str::to_owned).collect()).ok().flatten()
    }
}

/// The models that a caller may use: those that its token and its user both may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowedModels {
    pub(crate) of_user: Option<ModelPatterns>,
    pub(crate) of_token: Option<ModelPatterns>,
}

impl AllowedModels {
    /// Whether the row, pool or agent of this name may be used.
    pub fn has(&self, name: &str) -> bool {
        let allows =
            |patterns: &Option<ModelPatterns>| patterns.as_ref().is_none_or(|some| some.matches(name));
        allows(&self.of_user) && allows(&self.of_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Option<ModelPatterns>, InvalidPatterns> {
        ModelPatterns::new(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn a_pattern_matches_a_name_or_all_that_begin_so() {
        let some = patterns(&["qwen", "llama-*"]).unwrap().unwrap();
        for (name, matches) in [
            ("qwen", true),
            ("qwen2", false),
            ("llama-3", true),
            ("llama-", true),
            ("llama", false),
            ("", false),
        ] {
            assert_eq!(some.matches(name), matches, "{name}");
        }
        assert_eq!(ModelPatterns::of_text(&some.to_text()), Some(some));
        assert_eq!(patterns(&["qwen", "*"]), Ok(None));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "x".repeat(101);
        for bad in [&[][..], &[""], &["a b"], &["a,b"], &["*a"], &["a**"], &["ü"], &[&long], &["x"; 65]] {
            assert_eq!(patterns(bad), Err(InvalidPatterns), "{bad:?}");
        }
        assert!(patterns(&[&long[1..], &format!("{}*", &long[1..])]).is_ok());
    }

    #[test]
    fn both_the_user_and_the_token_have_to_allow_a_model() {
        let all = AllowedModels::default();
        assert!(all.has("a"));
        let of_user = patterns(&["a", "b"]).unwrap();
        let user = AllowedModels { of_user: of_user.clone(), of_token: None };
        assert!(user.has("a") && !user.has("c"));
        let both = AllowedModels { of_user, of_token: patterns(&["b", "c"]).unwrap() };
        assert_eq!(["a", "b", "c"].map(|name| both.has(name)), [false, true, false]);
    }
}
