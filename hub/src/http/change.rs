//! Changes of the registry that a route makes, and the errors that refuse them.

use crate::error::{ApiError, ErrorKind};
use crate::hub::Hub;
use crate::quota::{too_large, too_many};
use crate::registry::{ManageError, Registry};
use crate::store::Change;
use crate::telemetry::Limit;

/// The kinds of object in the text of a refusal.
pub(super) const LLM: &str = "LLM";
pub(super) const AGENT: &str = "agent";
pub(super) const POOL: &str = "pool";
pub(super) const NAME: &str = "name";

/// Applies `change` to the registry and returns its value once the store has written it. `kind` and `name` say in an
/// error what was to be changed.
pub(super) async fn change<T>(
    hub: &Hub,
    kind: &str,
    name: &str,
    change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), ManageError>,
) -> Result<T, ApiError> {
    let (value, written) = hub.try_change(change).map_err(|error| refused(error, kind, name))?;
    written.await?;
    Ok(value)
}

/// The answer to a change of the `kind` called `name` that the registry refused.
pub(super) fn refused(error: ManageError, kind: &str, name: &str) -> ApiError {
    match error {
        ManageError::Invalid(malformed) => malformed.into(),
        ManageError::Forbidden => {
            let allowed = if [LLM, NAME].contains(&kind) { "admins" } else { "its owner and admins" };
            ApiError::new(ErrorKind::Forbidden, format!("{kind} '{name}': for {allowed} only"))
        }
        ManageError::Unknown => ApiError::not_found(kind, name),
        ManageError::UnknownRow(row) => ApiError::not_found(LLM, &row),
        ManageError::Conflict(text) => ApiError::new(ErrorKind::Conflict, text),
        ManageError::PoolFull(text) => ApiError::new(ErrorKind::Conflict, text).refused_by(Limit::PoolLlms),
        ManageError::TooMany(most) => too_many(most, "agents").refused_by(Limit::Agents),
        ManageError::TooLarge(most) => too_large(most),
    }
}
