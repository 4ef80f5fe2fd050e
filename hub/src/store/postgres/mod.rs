//! The store in a PostgreSQL database, for a hub that belongs to a cluster.
//!
//! ```text
//! address     Address          the database's address, and how a connection is opened
//! tls         Verified         TLS to the database, with the system's roots
//! connection  Connection       a connection that is opened anew when it broke; prepared statements, deadlines
//! schema      migrate          tables as an ordered list of migrations, and whose they are
//! lease       Lease            the right of one hub to write: each transaction checks it
//! processes   …                the processes that had it
//! columns     Value, Row       values and rows of `crate::store::columns`
//! transaction run              lists of changes in one transaction, with a known ending
//! tasks       …                statements for durable tasks
//! writer      Writer           jobs in order; waiting writes share a commit
//! expiry      …                deletion of what is past its retention or over a quota
//! ```
//!
//! One thread has a runtime of its own and four connections: for writes, for reads, for deletions, for the lease.

mod address;
mod columns;
mod connection;
mod expiry;
mod lease;
mod processes;
mod schema;
mod store;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;
mod writer;

pub use store::PostgresStore;
