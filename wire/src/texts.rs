//! The fixed texts of SPEC.md section 3.5: people and programs match on them, so they are written once.

/// A task names a provider that this publisher does not have.
pub fn not_registered_locally(name: &str) -> String {
    format!("provider '{name}' not registered locally")
}

/// A wake task for a provider without a recipe.
pub fn no_wake_recipe(name: &str) -> String {
    format!("provider '{name}' has no wake recipe configured")
}

/// The recipe ran, the backend did not answer in time.
pub fn did_not_come_up(name: &str, millis: u64) -> String {
    format!("provider '{name}' did not come up within {millis}ms")
}

/// The recipe failed; `reason` is one of SPEC.md's list.
pub fn wake_recipe_failed(reason: &str) -> String {
    format!("wake recipe failed: {reason}")
}

/// The backend cannot be reached, and nothing can wake it.
pub const BACKEND_NOT_AVAILABLE: &str = "backend not available";
/// The backend's 401, 403 or 407.
pub const BACKEND_REFUSED_KEY: &str = "the backend refused the publisher's key";
/// A registrar that stops.
pub const SHUTTING_DOWN: &str = "publisher shutting down";
/// A streamed task that comes again after its end.
pub const ALREADY_ANSWERED: &str = "task already answered";

/// Register: a public row has the name.
pub fn over_public(name: &str) -> String {
    format!("Cannot publish over public LLM: {name}")
}

/// Register: another living session, or another user, has the name and the caller may see it.
pub fn published_elsewhere(name: &str) -> String {
    format!("LLM {name} is published by another session")
}

/// Register: the name belongs to something that the caller may not see.
pub fn name_taken(name: &str) -> String {
    format!("name '{name}' is taken")
}
