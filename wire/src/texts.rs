//! The fixed error texts of SPEC.md section 3.5, which programs match on.

use crate::row::Timestamp;

/// The publisher does not have the provider that a task names.
pub fn not_registered_locally(name: &str) -> String {
    format!("provider '{name}' not registered locally")
}

/// A wake task for a provider without a recipe.
pub fn no_wake_recipe(name: &str) -> String {
    format!("provider '{name}' has no wake recipe configured")
}

/// The recipe ran, but the backend did not answer in time.
pub fn did_not_come_up(name: &str, millis: u64) -> String {
    format!("provider '{name}' did not come up within {millis}ms")
}

/// The recipe failed; `reason` is one of SPEC.md's list.
pub fn wake_recipe_failed(reason: &str) -> String {
    format!("wake recipe failed: {reason}")
}

/// The backend's 4xx or 5xx, for a hub that accepts no status for a streamed task.
pub fn backend_answered(status: u16, message: &str) -> String {
    format!("backend answered {status}: {message}")
}

/// Error code of the 503 with which a paused publisher rejects a task.
pub const PAUSED: &str = "paused";

/// The publisher's owner has paused it.
pub fn paused(name: &str, until: Option<Timestamp>) -> String {
    match until {
        Some(until) => format!("'{name}' is paused by its owner until {until}, try again then"),
        None => format!("'{name}' is paused by its owner, try again later"),
    }
}

/// The backend cannot be reached or started.
pub const BACKEND_NOT_AVAILABLE: &str = "backend not available";
/// The backend answered 401, 403 or 407.
pub const BACKEND_REFUSED_KEY: &str = "the backend refused the publisher's key";
/// The registrar is stopping.
pub const SHUTTING_DOWN: &str = "publisher shutting down";
/// A streamed task was dispatched again after its end.
pub const ALREADY_ANSWERED: &str = "task already answered";

/// A fixed text of a failed task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedText {
    /// [`not_registered_locally`].
    NotRegistered,
    /// [`no_wake_recipe`], [`did_not_come_up`] or [`wake_recipe_failed`].
    WakeFailed,
    /// [`BACKEND_NOT_AVAILABLE`].
    BackendNotAvailable,
    /// [`BACKEND_REFUSED_KEY`].
    BackendRefusedKey,
    /// [`SHUTTING_DOWN`].
    ShuttingDown,
    /// [`ALREADY_ANSWERED`].
    AlreadyAnswered,
    /// [`backend_answered`], with its status.
    BackendAnswered(u16),
}

impl FixedText {
    /// Recognizes a fixed text; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            BACKEND_NOT_AVAILABLE => return Some(Self::BackendNotAvailable),
            BACKEND_REFUSED_KEY => return Some(Self::BackendRefusedKey),
            SHUTTING_DOWN => return Some(Self::ShuttingDown),
            ALREADY_ANSWERED => return Some(Self::AlreadyAnswered),
            _ => (),
        }
        if text.starts_with("wake recipe failed: ") {
            return Some(Self::WakeFailed);
        }
        if let Some(rest) = text.strip_prefix("backend answered ") {
            let status = rest.get(..3)?.parse().ok()?;
            let ends = rest.get(3..).is_some_and(|rest| rest.is_empty() || rest.starts_with(": "));
            return (ends && (400..=599).contains(&status)).then_some(Self::BackendAnswered(status));
        }
        // Names have no quotes, so the next quote ends the name.
        let (_, rest) = text.strip_prefix("provider '")?.split_once('\'')?;
        match rest {
            " not registered locally" => Some(Self::NotRegistered),
            " has no wake recipe configured" => Some(Self::WakeFailed),
            _ => {
                let millis = rest.strip_prefix(" did not come up within ")?.strip_suffix("ms")?;
                millis.bytes().all(|byte| byte.is_ascii_digit()).then_some(Self::WakeFailed)
            }
        }
    }
}

/// Register error: a public row has the name.
pub fn over_public(name: &str) -> String {
    format!("Cannot publish over public LLM: {name}")
}

/// Register error: another session publishes the name, and the caller may see it.
pub fn published_elsewhere(name: &str) -> String {
    format!("LLM {name} is published by another session")
}

/// Register warning: the row awaits admission to a pool of `owner`.
pub fn waits_for(row: &str, pool: &str, owner: &str) -> String {
    format!(
        "LLM {row} waits for {owner}: it serves the pool '{pool}' once {owner} or an admin has said \
         `virtual-llm pool admit {pool} {row}`, and is called by its own name until then"
    )
}

/// Register error: the name is in use, and the caller may not see by what.
pub fn name_taken(name: &str) -> String {
    format!("name '{name}' is taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fixed_text_is_recognized() {
        for (text, fixed) in [
            (not_registered_locally("a.b-c_d"), FixedText::NotRegistered),
            (no_wake_recipe("x"), FixedText::WakeFailed),
            (did_not_come_up("x", 60_000), FixedText::WakeFailed),
            (wake_recipe_failed("wake HTTP timed out"), FixedText::WakeFailed),
            (BACKEND_NOT_AVAILABLE.to_owned(), FixedText::BackendNotAvailable),
            (BACKEND_REFUSED_KEY.to_owned(), FixedText::BackendRefusedKey),
            (SHUTTING_DOWN.to_owned(), FixedText::ShuttingDown),
            (ALREADY_ANSWERED.to_owned(), FixedText::AlreadyAnswered),
            (backend_answered(422, "no such tool"), FixedText::BackendAnswered(422)),
        ] {
            assert_eq!(FixedText::parse(&text), Some(fixed), "{text}");
        }
    }

    #[test]
    fn similar_texts_are_not_fixed_texts() {
        for text in [
            "",
            "Backend not available",
            "backend not available, sorry",
            "backend answered",
            "backend answered 200: fine",
            "backend answered 4000: no",
            "backend answered 42é: no",
            "provider 'x' did not come up within a ms",
            "provider 'x",
            "provider 'x' is tired",
        ] {
            assert_eq!(FixedText::parse(text), None, "{text}");
        }
    }
}
