//! Databases of a PostgreSQL server for tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{Config, NoTls, config::Host};

/// Databases at once: a server takes 100 connections as it is installed, and three hubs have 15.
const MOST: usize = 5;

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// A new database on the server at `VIRTUAL_LLM_TEST_PG`, or at the usual port of this machine. It is dropped at the end.
pub struct Database {
    server: String,
    name: String,
    _place: SemaphorePermit<'static>,
}

impl Database {
    /// Makes a database, once there is a place for one; `None` if there is no server, which is reported as a skipped test. A test
    /// that needs a second one lets go of the first, or could wait for ever.
    pub async fn create() -> Option<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(0);

        let server = std::env::var("VIRTUAL_LLM_TEST_PG");
        let server = server.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432".into());
        let place = PLACES.acquire().await.unwrap();
        let name = format!("vl_{}_{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        if let Err(error) = command(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await {
            crate::skipped(&format!("no PostgreSQL at {server} ({error}), see docs/cluster.md"));
            return None;
        }
        Some(Self { server, name, _place: place })
    }

    /// The database's address.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// The database's address through a proxy on `port` of this machine.
    pub fn url_at(&self, port: u16) -> String {
        let config: Config = self.url().parse().unwrap();
        format!("postgres://{}@127.0.0.1:{port}/{}", config.get_user().unwrap(), self.name)
    }

    /// The address of a database that does not exist.
    pub fn missing_url(&self) -> String {
        format!("{}/vl_missing", self.server)
    }

    /// The server's port on this machine; `None` if it is elsewhere, which is reported as a skipped test.
    pub fn port(&self) -> Option<u16> {
        let config: Config = self.url().parse().unwrap();
        let is_local = config.get_hosts() == [Host::Tcp("127.0.0.1".into())];
        if !is_local {
            crate::skipped("PostgreSQL is not at 127.0.0.1");
        }
        is_local.then(|| config.get_ports().first().copied().unwrap_or(5432))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL that may end connections to the database.
    pub async fn run_anyway(&self, sql: &str) {
        drop(command(&self.url(), sql).await);
    }

    /// Runs SQL in the database.
    pub async fn run(&self, sql: &str) {
        command(&self.url(), sql).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = format!("{}/postgres", self.server);
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(command(&server, &sql)).unwrap();
        });
        dropping.join().unwrap();
    }
}

async fn command(url: &str, sql: &str) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let (done, _) = tokio::join!(async move { client.batch_execute(sql).await }, connection);
    done
}
