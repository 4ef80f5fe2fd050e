//! A connection to the database, which is opened anew when it broke.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};

use super::address::shown;
use super::tls::Verified;
use crate::store::StoreError;
use crate::store::columns::Value;

/// Time for one statement. A connection that takes longer is given up: it may be dead.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time between two attempts to connect. Statements fail meanwhile.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// Why a statement had no effect.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The database refuses these values, also when they are sent again.
    Refused(StoreError),
    /// The database is away, full or read-only, or the connection broke.
    Broken(StoreError),
}

impl Failure {
    pub(super) fn into_error(self) -> StoreError {
        let (Self::Refused(error) | Self::Broken(error)) = self;
        error
    }
}

/// Translates an error of the database. Its messages name tables and columns, never values: those are in its details.
impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(cause) = error.as_db_error() else {
            return Self::Broken(StoreError::Unavailable(format!("the database: {error}")));
        };
        let text = format!("the database: {} ({})", cause.message(), cause.code().code());
        // Classes of SQLSTATE: a violated constraint, a value that is none of the column's type.
        if cause.code().code().starts_with("23") || cause.code().code().starts_with("22") {
            Self::Refused(StoreError::Unavailable(text))
        } else {
            Self::Broken(StoreError::Unavailable(text))
        }
    }
}

/// A connection, opened when it is needed.
pub(super) struct Connection {
    config: Config,
    tls: Verified,
    session: Option<Rc<Session>>,
    /// When the next attempt may be made, and how the last one failed.
    retry: Option<(Instant, StoreError)>,
}

impl Connection {
    pub(super) fn new(config: Config, tls: Verified) -> Self {
        Self { config, tls, session: None, retry: None }
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
        match Session::open(&self.config, self.tls.clone()).await {
            Ok(session) => {
                let session = Rc::new(session);
                (self.session, self.retry) = (Some(session.clone()), None);
                Ok(session)
            }
            Err(error) => {
                self.retry = Some((Instant::now() + RETRY_EVERY, error.clone()));
                Err(error)
            }
        }
    }

    /// Gives the connection up. The database rolls back what it has not committed.
    pub(super) fn close(&mut self) {
        self.session = None;
    }
}

/// An open connection with its prepared statements.
pub(super) struct Session {
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
    async fn open(config: &Config, tls: Verified) -> Result<Self, StoreError> {
        let away = |why: String| StoreError::Unavailable(format!("the database {}: {why}", shown(config)));
        let (client, connection) = timeout(DEADLINE, config.connect(tls))
            .await
            .map_err(|_| away("no answer".into()))?
            .map_err(|error| away(reason(&error)))?;
        // Its errors reach the statements that wait.
        let driver = tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Self { client, statements: RefCell::default(), driver })
    }

    /// Runs SQL without parameters.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Failure> {
        within(self.client.batch_execute(sql)).await
    }

    /// Prepares a statement, once for the connection.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = within(self.client.prepare(sql)).await?;
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a statement and returns the number of rows that it changed.
    pub(super) async fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, Failure> {
        let statement = self.prepare(sql).await?;
        within(self.client.execute(&statement, &parameters(values))).await
    }

    /// Runs a statement and returns the rows that it selects.
    pub(super) async fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, Failure> {
        let statement = self.prepare(sql).await?;
        within(self.client.query(&statement, &parameters(values))).await
    }
}

fn parameters<'a>(values: &'a [Value<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

/// Limits the time of a statement.
async fn within<T>(statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    match timeout(DEADLINE, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Failure::Broken(StoreError::Unavailable(format!(
            "the database: no answer within {} s",
            DEADLINE.as_secs()
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
