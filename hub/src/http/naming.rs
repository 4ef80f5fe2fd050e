//! Calls that give something a name tell whether the name is free: who asks for too many that are not is not told.

use super::HubData;
use wire::register::RegisterRequest;

use crate::error::{ApiError, ErrorKind};
use crate::model::{Caller, UserId};
use crate::quota::{MistakeBudgets, Verdict};

/// So many names that are not its own may the refused calls of a user have at once: a large team's registrars that all have
/// a name too many.
const BURST: u32 = 256;
/// So many more a second.
const PER_SECOND: u32 = 4;

/// The budgets of all users.
pub(crate) fn budgets() -> MistakeBudgets<UserId> {
    MistakeBudgets::new(BURST, PER_SECOND)
}

/// Before anything is looked at: the answer must not tell one name from another. Asked before the body is read, which may
/// be much for nothing, and again when it has been, with nothing awaited before the names are looked at: many calls may have
/// begun while all of them were allowed.
pub(super) fn may_ask(hub: &HubData, caller: &Caller) -> Result<(), ApiError> {
    let now = hub.now().mono;
    if !hub.misnamed.is_spent(&caller.user, now) {
        return Ok(());
    }
    if hub.misnamed.spend(caller.user.clone(), now) == (Verdict::Refused { first: true }) {
        log::warn!(
            "register or create calls of {} that were refused named {BURST} names that are not its own: \
             {PER_SECOND} a second of them are looked at from now on, the other calls get 429",
            caller.user
        );
    }
    hub.watch.machine.names_not_looked_at();
    let text = "too many of your calls to register or create were refused: wait, and send one that is right";
    Err(ApiError::new(ErrorKind::Busy, text))
}

/// The names of a register call.
pub(super) fn names_of(request: &RegisterRequest) -> impl Iterator<Item = &str> {
    let rows = request.providers.iter().flat_map(|spec| std::iter::once(&spec.name).chain(&spec.pool_name));
    rows.chain(request.agents.iter().map(|spec| &spec.name)).map(String::as_str)
}

/// A call that named these things is refused, with this error. It counts for each name that is not the caller's: what it is
/// told tells something of all of them.
pub(super) fn refused<'a>(
    hub: &HubData,
    caller: &Caller,
    names: impl IntoIterator<Item = &'a str>,
    error: ApiError,
) -> ApiError {
    if matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Conflict | ErrorKind::Busy) {
        let others = hub.registry.lock().count_unowned(caller, names);
        let others = u32::try_from(others.max(1)).unwrap_or(u32::MAX);
        hub.misnamed.charge(caller.user.clone(), others, hub.now().mono);
    }
    error
}
