//! What several hubs on one database need beside [`Store`](crate::store::Store).

use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;

use tokio::sync::oneshot;

use super::connection::{Failure, Session};
use super::feed::{self, Pulled};
use super::store::{PostgresStore, respond};
use super::writer::{ReadFn, SharedConnection};
use super::{tasks, turns};
use crate::cluster::Process;
use crate::limits::Spent;
use crate::model::{Day, DurableTask};
use crate::store::columns::{StoredRow, StoredValue};
use crate::store::queue::wait_for;
use crate::store::{Change, StoreFuture, tasks as task_rows, usage};

impl PostgresStore {
    /// Does work of turns and the feed, in order.
    fn work<T, F>(&self, work: impl FnOnce(Rc<Session>) -> F + Send + 'static) -> StoreFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + 'static,
    {
        let (reply, result) = oneshot::channel();
        let work: ReadFn = Box::new(move |connection| Box::pin(respond(connection, work, reply)));
        // The reply of one that is not sent is dropped, which ends the wait.
        drop(self.shared.send(work));
        wait_for(result)
    }

    /// Waits for the turn of this hub to change the table of LLMs. Returns its number.
    pub fn begin_turn(&self) -> StoreFuture<i64> {
        let process = self.process;
        self.work(async move |session: Rc<Session>| turns::begin(&session, process).await)
    }

    /// Ends the turn, when all earlier work is done.
    pub fn end_turn(&self) {
        // Nobody waits for it.
        let end: ReadFn = Box::new(|connection: SharedConnection| {
            Box::pin(async move {
                let mut connection = connection.lock().await;
                if let Ok(session) = connection.session().await
                    && turns::end(&session).await.is_err()
                {
                    // The turn ends with its connection.
                    connection.close();
                }
            })
        });
        drop(self.shared.send(end));
    }

    /// Applies `changes` in one transaction, in the turn `turn` alone.
    pub fn write_in_turn(&self, changes: Vec<Change>, turn: i64) -> StoreFuture<()> {
        self.queue.write_in_turn(changes, turn)
    }

    /// The cursor from which the feed has all changes that are not committed yet.
    pub fn cursor(&self) -> StoreFuture<String> {
        self.work(async |session: Rc<Session>| feed::cursor(&session).await)
    }

    /// Reads what was changed since `cursor`.
    pub fn pull(&self, cursor: String) -> StoreFuture<Pulled> {
        self.work(async move |session: Rc<Session>| feed::pull(&session, &cursor).await)
    }

    /// Reads all that the feed may have.
    pub fn pull_all(&self) -> StoreFuture<Pulled> {
        self.work(async |session: Rc<Session>| feed::pull_all(&session).await)
    }

    /// The number of this process among those of its hub.
    pub fn term(&self) -> StoreFuture<u64> {
        let process = self.process;
        self.work(async move |session: Rc<Session>| {
            let sql = "SELECT term FROM processes WHERE hub = $1 AND boot = $2";
            let rows = session.query(sql, &[process.hub().into(), process.boot().into()]).await?;
            rows.first().map_or(Ok(0), |row| row.field("term")).map_err(Failure::Broken)
        })
    }

    /// Whether the lease of `process` holds.
    pub fn has_lease(&self, process: Process) -> StoreFuture<bool> {
        #[cfg(test)]
        if self.is_absent() {
            return Box::pin(async { Ok(false) });
        }
        let sql = "SELECT true AS found FROM hubs WHERE id = $1 AND boot = $2 AND until > now()";
        let key = [process.hub(), process.boot()].map(|part| StoredValue::Text(part.to_owned()));
        let found = self.select(sql, key.into(), |_| Ok(()));
        Box::pin(async { Ok(!found.await?.is_empty()) })
    }

    /// Makes the sessions of hubs whose lease has been over for a while this hub's own.
    pub fn adopt_sessions(&self) -> StoreFuture<()> {
        let process = self.process;
        self.work(async move |session: Rc<Session>| adopt_sessions(&session, process, "5 min").await)
    }

    /// Most tasks in a page of those that hubs have left.
    pub const ORPHANS: usize = 1000;

    /// A page of the open tasks of hubs whose lease is over, without texts, of owners in turns; and whether it has been over for a
    /// minute. One that is not full has all of them.
    pub fn orphans(&self) -> StoreFuture<Vec<(DurableTask, bool)>> {
        let own = StoredValue::Text(self.process.hub().to_owned());
        let most = StoredValue::Integer(i64::try_from(Self::ORPHANS).unwrap_or(i64::MAX));
        self.select(tasks::ORPHANS, vec![own, most], |row| Ok((task_rows::task(row)?, row.field("is_old")?)))
    }

    /// This hub's open tasks, without texts, oldest first.
    pub fn own_open(&self) -> StoreFuture<Vec<DurableTask>> {
        let own = vec![StoredValue::Text(self.process.hub().to_owned())];
        self.select(tasks::OWN_OPEN, own, task_rows::task)
    }

    /// Makes tasks of hubs whose lease is over this hub's own. Returns the ids of those that no other hub was quicker to take, and
    /// whether they had been sent out.
    pub fn adopt_orphans(&self, ids: &[&str]) -> StoreFuture<HashMap<String, bool>> {
        let (hub, boot) = (self.process.hub().to_owned(), self.process.boot().to_owned());
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let values = vec![StoredValue::Text(hub), StoredValue::Text(ids), StoredValue::Text(boot)];
        let adopted =
            self.select(tasks::ADOPT_ORPHANS, values, |row| Ok((row.field("id")?, row.field("claimed")?)));
        Box::pin(async { Ok(adopted.await?.into_iter().collect()) })
    }

    /// Of the tasks `ids` those that another hub has taken over.
    pub fn taken_over(&self, ids: &[&String]) -> StoreFuture<Vec<String>> {
        let ids = serde_json::to_string(ids).unwrap_or_default();
        let values = vec![StoredValue::Text(self.process.hub().to_owned()), StoredValue::Text(ids)];
        self.select(tasks::TAKEN_OVER, values, |row| row.field("id"))
    }

    /// What each hub used on `day`, as far as it has written that: of the user `user`, or of all.
    pub fn spent(&self, day: Day, user: Option<String>) -> StoreFuture<Vec<Spent>> {
        let tokens = usage::postgres_sum("input_tokens + output_tokens");
        let sql = format!(
            "SELECT hub, \"user\", token, {tokens} AS tokens FROM usage_sums
            WHERE day = $1 AND ($2::text IS NULL OR \"user\" = $2) GROUP BY hub, \"user\", token"
        );
        let values = vec![StoredValue::Integer(day.0), user.map_or(StoredValue::Null, StoredValue::Text)];
        self.select(sql, values, |row| {
            let [hub, user, token] = ["hub", "user", "token"].map(|column| row.field(column));
            Ok(Spent { hub: hub?, user: user?, token: token?, tokens: row.field("tokens")? })
        })
    }

    /// The hub that runs the task `id`, if the task has not ended.
    pub fn hub_of_task(&self, id: &str) -> StoreFuture<Option<String>> {
        let sql = "SELECT hub FROM tasks WHERE id = $1 AND NOT ended";
        let found = self.select(sql, vec![StoredValue::Text(id.to_owned())], |row| row.field("hub"));
        Box::pin(async { Ok(found.await?.pop().flatten()) })
    }
}

/// Makes the sessions and open tasks of hubs without a lease those of `process`.
pub(super) async fn adopt(session: &Session, process: Process) -> Result<(), Failure> {
    session.execute(tasks::ADOPT, &[process.hub().into()]).await?;
    adopt_sessions(session, process, "0").await
}

async fn adopt_sessions(session: &Session, process: Process, over_for: &str) -> Result<(), Failure> {
    let sql = "UPDATE sessions SET hub = $1 WHERE hub IS DISTINCT FROM $1
        AND NOT EXISTS (SELECT FROM hubs WHERE hubs.id = sessions.hub AND until > now() - $2::text::interval)";
    session.execute(sql, &[process.hub().into(), over_for.into()]).await.map(drop)
}
