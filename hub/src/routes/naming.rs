//! Calls that give something a name tell whether the name is free: who asks for too many that are not is not told.

use super::HubData;
use crate::budget::{Budgets, Verdict};
use crate::error::{ApiError, ErrorKind};
use crate::model::{Caller, UserId};

/// So many such calls of one user may be refused at once: a large team's registrars that all have a name too many.
const BURST: u32 = 256;
/// So many more a second.
const PER_SECOND: u32 = 4;

/// The budgets of all users.
pub(crate) fn budgets() -> Budgets<UserId> {
    Budgets::new(BURST, PER_SECOND)
}

/// Before anything is looked at: the answer must not tell one name from another.
pub(super) fn may_ask(hub: &HubData, caller: &Caller) -> Result<(), ApiError> {
    let now = hub.now().mono;
    if !hub.misnamed.is_spent(&caller.user, now) {
        return Ok(());
    }
    if hub.misnamed.mistake(caller.user.clone(), now) == (Verdict::TooMany { first: true }) {
        log::warn!(
            "{BURST} register or create calls of {} were refused: {PER_SECOND} a second of them are looked at \
             from now on, the others get 429",
            caller.user
        );
    }
    hub.watch.machine.names_not_looked_at();
    let text = "too many of your calls to register or create were refused: wait, and send one that is right";
    Err(ApiError::new(ErrorKind::Busy, text))
}

/// A call is refused, with this error.
pub(super) fn refused(hub: &HubData, caller: &Caller, error: ApiError) -> ApiError {
    if matches!(error.kind, ErrorKind::BadRequest | ErrorKind::Conflict | ErrorKind::Busy) {
        hub.misnamed.mistake(caller.user.clone(), hub.now().mono);
    }
    error
}
