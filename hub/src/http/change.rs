//! Changes of the registry that a route makes, and the errors that refuse them.

use std::time::Duration;

use backend::FairPermit;
use tokio::time::timeout;

use crate::clock;
use crate::cluster::TableTurn;
use crate::connections::{self, PriorityGuard};
use crate::error::{ApiError, ErrorKind};
use crate::hub::{ChangeTurns, Hub};
use crate::model::Caller;
use crate::quota::{BytesPermit, too_large, too_many};
use crate::registry::{ManageError, Registry};
use crate::store::{Change, StoreFuture};
use crate::telemetry::Limit;

/// The kinds of object in the text of a refusal.
pub(super) const LLM: &str = "LLM";
pub(super) const AGENT: &str = "agent";
pub(super) const POOL: &str = "pool";
pub(super) const NAME: &str = "name";
pub(super) const ALIAS: &str = "alias";

/// Longest wait for a turn: in that time a healthy store commits the changes of some hundred calls.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A user's turn to change the registry. It lasts until the changes are committed, also if the caller leaves.
pub(super) struct ChangeTurn {
    is_small: bool,
    /// The turn among the hubs of a cluster.
    pub(super) table: TableTurn,
    _turn: (FairPermit, PriorityGuard),
    /// Counts the call's body.
    body: BytesPermit,
}

impl ChangeTurn {
    /// Waits until it is the turn of `caller` to make a change. `body` counts the body of the call.
    pub(super) async fn wait(hub: &Hub, caller: &Caller, body: BytesPermit) -> Result<Self, ApiError> {
        Self::wait_to_drop(hub, caller, body, 0).await
    }

    /// As [`wait`](Self::wait), for a change that also drops at most `dropped` rows and agents.
    pub(super) async fn wait_to_drop(
        hub: &Hub,
        caller: &Caller,
        body: BytesPermit,
        dropped: usize,
    ) -> Result<Self, ApiError> {
        let is_small = ChangeTurns::is_small(body.size(), dropped);
        let turns = hub.change_turns.of(body.size(), dropped);
        let Ok(turn) = timeout(TURN_TIMEOUT, connections::turn(turns, &caller.user)).await else {
            let error = if turns.is_held_by(&caller.user) {
                let text = "your earlier calls that register or change something are not written yet: try again later";
                ApiError::new(ErrorKind::Busy, text)
            } else {
                // Other users have all turns.
                ApiError::new(ErrorKind::HubBusy, "the hub is busy, try again later")
            };
            return Err(error.refused_by(Limit::ChangeTurns));
        };
        // The token may have been revoked meanwhile.
        if !hub.tokens.is_valid(&caller.token_id, clock::now()) {
            return Err(ApiError::revoked());
        }
        let table = timeout(TURN_TIMEOUT, hub.table_turn()).await.map_err(|_| {
            let text = "other hubs are changing the table of LLMs, try again later";
            ApiError::new(ErrorKind::HubBusy, text).refused_by(Limit::ChangeTurns)
        })??;
        Ok(Self { is_small, table, _turn: turn, body })
    }

    /// Whether the turn is long enough to drop `dropped` rows and agents.
    pub(super) fn may_drop(&self, dropped: usize) -> bool {
        !self.is_small || ChangeTurns::is_small(self.body.size(), dropped)
    }

    /// Gives this turn back, and waits for one that is long enough for any change.
    pub(super) async fn lengthen(self, hub: &Hub, caller: &Caller) -> Result<Self, ApiError> {
        let Self { body, table, _turn: turn, .. } = self;
        // Before the wait, in which it would keep others waiting.
        drop((table, turn));
        Self::wait_to_drop(hub, caller, body, usize::MAX).await
    }

    /// Waits for the commit of the changes, and ends the turn.
    pub(super) async fn commit(self, written: StoreFuture<()>) -> Result<(), ApiError> {
        // Spawned, since the changes of a caller that leaves still wait for the store.
        let commit = tokio::spawn(async move {
            let _turn = self;
            written.await
        });
        Ok(commit.await.map_err(ApiError::internal)??)
    }
}

/// Applies `change` to the registry in the turn of `caller`, and returns its value once the store has written it. `body`
/// counts the call's body; `kind` and `name` say in an error what was to be changed.
pub(super) async fn change<T>(
    hub: &Hub,
    (caller, body): (&Caller, BytesPermit),
    (kind, name): (&str, &str),
    change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), ManageError>,
) -> Result<T, ApiError> {
    let turn = ChangeTurn::wait(hub, caller, body).await?;
    let (value, written) = hub.try_change(&turn.table, change).map_err(|error| refused(error, kind, name))?;
    turn.commit(written).await?;
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
        ManageError::TooManyAliases(most) => {
            ApiError::new(ErrorKind::Busy, format!("you have {most} aliases already: delete some"))
                .refused_by(Limit::Aliases)
        }
        ManageError::TooLarge(most) => too_large(most),
    }
}
