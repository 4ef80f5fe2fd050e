//! Whole results that come over a link in parts.

use tokio::sync::oneshot;

use super::acceptance::Rejection;
use super::result::ResultSender;
use crate::hub::Hub;

/// What a result in parts is for.
pub(crate) enum Assembly {
    /// A live task. Resolves when that has ended in another way.
    Live(oneshot::Receiver<()>),
    /// A task that ended with a result, which this may be once more.
    Late,
}

/// Begins to put a result together, which ends with its task.
pub(crate) fn begin_assembly(hub: &Hub, from: ResultSender<'_>) -> Result<Assembly, Rejection> {
    let mut dispatches = hub.dispatches.lock();
    if let Some(state) = from.live(&mut dispatches) {
        let (alive, gone) = oneshot::channel();
        state.assembly = Some(alive);
        return Ok(Assembly::Live(gone));
    }
    match from.ended(&dispatches, None) {
        Ok(_) | Err(Rejection::Conflict) => Ok(Assembly::Late),
        Err(rejection) => Err(rejection),
    }
}
