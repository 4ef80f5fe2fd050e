//! A connection to the database, which is opened anew when it broke.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::address::Address;
use super::tls::Verified;
use crate::store::StoreError;
use crate::store::columns::Value;
use crate::store::rows;

/// Time for one statement, beside that for its bytes. A connection that takes longer is given up: it may be dead.
const DEADLINE: Duration = Duration::from_secs(5);
/// As [`DEADLINE`], for one that reads many rows.
const SEARCH: Duration = Duration::from_mins(1);
/// Slowest line for large statements, in bytes a millisecond: 1 MB/s.
const BYTES_A_MS: u64 = 1000;
/// Time for a migration.
const MIGRATION: Duration = Duration::from_mins(10);
/// Time between two attempts to connect. Statements fail meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Why a statement had no effect.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The database refuses these values, also when they are sent again.
    Refused(StoreError),
    /// The database has ended this transaction for another's sake: a deadlock, or a lock that was not free in time. It may be tried
    /// again.
    Conflict(StoreError),
    /// The database is away, full or read-only, or the connection broke.
    Broken(StoreError),
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        let (Self::Refused(error) | Self::Conflict(error) | Self::Broken(error)) = self;
        error
    }
}

/// Translates an error of the database. Its messages name tables and columns, never values: those are in its details.
impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(cause) = error.as_db_error() else {
            return Self::Broken(StoreError::Unavailable(format!("the database: {error}")));
        };
        let code = cause.code();
        let error = StoreError::Unavailable(format!("the database: {} ({})", cause.message(), code.code()));
        let of_another = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::LOCK_NOT_AVAILABLE,
        ];
        if of_another.contains(code) {
            return Self::Conflict(error);
        }
        // Classes of SQLSTATE: a violated constraint, a value of another type than the column's.
        if code.code().starts_with("23") || code.code().starts_with("22") {
            Self::Refused(error)
        } else {
            Self::Broken(error)
        }
    }
}

/// Settings of each connection. Without them a hub that vanishes within a transaction, without the end of its connection, keeps
/// its locks for hours.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '10s';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2";
/// A setting that PostgreSQL 13 and some systems do not have: a statement ends with its connection.
const CHECKED: &str = "SET client_connection_check_interval = '5s'";

/// A connection, opened when it is needed.
pub(super) struct Connection {
    /// Time for one statement, beside that for its bytes.
    deadline: Duration,
    address: Address,
    /// The host that answered last, by its number.
    host: usize,
    tls: Verified,
    session: Option<Rc<Session>>,
    /// When the next attempt may be made, and how the last one failed.
    retry: Option<(Instant, StoreError)>,
}

impl Connection {
    pub(super) fn new(address: Address, tls: Verified) -> Self {
        Self { deadline: DEADLINE, address, host: 0, tls, session: None, retry: None }
    }

    /// A connection for statements that read many rows.
    pub(super) fn for_searches(address: Address, tls: Verified) -> Self {
        Self { deadline: SEARCH, ..Self::new(address, tls) }
    }

    /// The open connection, or a new one.
    pub(super) async fn session(&mut self) -> Result<Rc<Session>, StoreError> {
        if let Some(session) = self.session.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(session.clone());
        }
        if let Some((at, error)) = &self.retry
            && Instant::now() < *at
        {
            return Err(error.clone());
        }
        let mut reasons = Vec::new();
        for _ in 0..self.address.hosts.len() {
            match Session::open(&self.address, self.host, self.tls.clone(), self.deadline).await {
                Ok(session) => {
                    let session = Rc::new(session);
                    (self.session, self.retry) = (Some(session.clone()), None);
                    return Ok(session);
                }
                Err(reason) => reasons.push(reason),
            }
            self.host = (self.host + 1) % self.address.hosts.len();
        }
        let text = format!("the database {}: {}", self.address.shown, reasons.join("; "));
        let error = StoreError::Unavailable(text);
        self.retry = Some((Instant::now() + RETRY_EVERY, error.clone()));
        Err(error)
    }

    /// Gives the connection up. The database rolls back what it has not committed.
    pub(super) fn close(&mut self) {
        self.session = None;
    }
}

/// An open connection with its prepared statements.
pub(super) struct Session {
    deadline: Duration,
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// Opens a connection. The error is the reason in words.
    async fn open(address: &Address, host: usize, tls: Verified, deadline: Duration) -> Result<Self, String> {
        let (client, connection) = timeout(DEADLINE, address.hosts[host].connect(tls))
            .await
            .map_err(|_| "no answer".to_owned())?
            .map_err(|error| reason(&error))?;
        // Its errors reach the statements that wait.
        let driver = tokio::task::spawn_local(async move { drop(connection.await) });
        let session = Self { deadline, client, statements: RefCell::default(), driver };
        // The hub's id has letters and digits alone.
        let settings = format!("{SETTINGS}; SET virtual_llm.hub = '{}'", address.hub);
        let (set, _) = join(session.batch(&settings), session.batch(CHECKED)).await;
        set.map_err(|failure| failure.into_error().to_string())?;
        Ok(session)
    }

    /// Runs SQL without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        within(DEADLINE, self.client.batch_execute(sql)).await
    }

    /// Runs SQL that changes the schema, which takes as long as its tables are large.
    pub(super) async fn migrate(&self, sql: &str) -> Result<(), Failure> {
        within(MIGRATION, self.client.batch_execute(sql)).await
    }

    /// Prepares a statement, once for the connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = within(self.deadline, self.client.prepare(sql)).await?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Failure> {
        let statement = self.prepare(sql).await?;
        within(self.deadline(size(values)), self.client.execute(&statement, &parameters(values))).await
    }

    /// Runs statements in order. None waits for the answer to the one before; after one that fails the others do, too.
    pub(super) async fn execute_all(&self, statements: &[rows::Statement<'_>]) -> Result<(), Failure> {
        let mut prepared = Vec::with_capacity(statements.len());
        for statement in statements {
            prepared.push(self.prepare(&statement.sql).await?);
        }
        // Each is sent when it is first polled, which `join_all` does in order.
        let running = prepared.iter().zip(statements).map(async |(prepared, statement)| {
            self.client.execute(prepared, &parameters(&statement.values)).await
        });
        let bytes = statements.iter().map(|statement| size(&statement.values)).sum();
        let all = async { join_all(running).await.into_iter().try_for_each(|result| result.map(drop)) };
        within(self.deadline(bytes), all).await
    }

    /// Runs a statement and returns the rows that it selects.
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        within(self.deadline(size(values)), self.client.query(&statement, &parameters(values))).await
    }

    /// Time for statements of `bytes` bytes.
    fn deadline(&self, bytes: u64) -> Duration {
        self.deadline + Duration::from_millis(bytes / BYTES_A_MS)
    }
}

fn parameters<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Bytes of values that have no fixed size.
pub(super) fn size(values: &[Value<'_>]) -> u64 {
    let size = |value: &Value<'_>| match value {
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::Null | Value::Bool(_) | Value::Integer(_) => 0,
    };
    values.iter().map(size).sum()
}

/// Limits the time of a statement.
async fn within<T>(
    deadline: Duration,
    statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Failure> {
    match timeout(deadline, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Broken(StoreError::Unavailable(format!(
            "the database: no answer within {} s",
            deadline.as_secs()
        )))),
    }
}

/// The reason why no connection was opened, with advice.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(cause) = error.as_db_error() {
        let advice = match *cause.code() {
            SqlState::INVALID_CATALOG_NAME => "; create it, for example with `createdb`",
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                "; check the user and the password in the file"
            }
            _ => "",
        };
        return format!("{}{advice}", cause.message());
    }
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let text = if cause.is_empty() { error.to_string() } else { format!("{error}: {cause}") };
    if text.contains("does not support TLS") {
        return format!("{text}; if the way to it is trusted, add ?sslmode=disable to the address");
    }
    text
}
