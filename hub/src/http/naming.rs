//! A budget of refused register and create calls for each user: each refusal tells whether a name is taken.

use crate::hub::HubData;
use wire::register::RegisterRequest;

use crate::error::{ApiError, ErrorKind};
use crate::hub::{MISNAMED_BURST, MISNAMED_PER_SECOND};
use crate::model::Caller;
use crate::quota::Verdict;

/// Refuses a call with 429 while the budget of `caller` is spent. Check before the body is read, which may be large, and
/// once more right before the names are looked up: many calls may have passed the first check at the same time.
pub(super) fn check_budget(hub: &HubData, caller: &Caller) -> Result<(), ApiError> {
    let now = hub.now().mono;
    if !hub.misnamed.is_spent(&caller.user, now) {
        return Ok(());
    }
    if hub.misnamed.spend(caller.user.clone(), now) == (Verdict::Refused { first: true }) {
        wire::log_with!(
            warn,
            [user = caller.user],
            "register or create calls of {} that were refused named {MISNAMED_BURST} names that are not its own: \
             {MISNAMED_PER_SECOND} a second of them are looked at from now on, the other calls get 429",
            caller.user
        );
    }
    hub.watch.machine.refused_a_naming_call();
    let text = "too many of your calls to register or create were refused: wait, and send one that is right";
    Err(ApiError::new(ErrorKind::Busy, text))
}

/// The names of rows, pools and agents in a register call.
pub(super) fn names_of(request: &RegisterRequest) -> impl Iterator<Item = &str> {
    let rows = request.providers.iter().flat_map(|spec| std::iter::once(&spec.name).chain(&spec.pool_name));
    rows.chain(request.agents.iter().map(|spec| &spec.name)).map(String::as_str)
}

/// Charges a call that `error` refuses for each of its `names` that is not the caller's, and returns the error.
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
