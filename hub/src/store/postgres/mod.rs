//! The store in a PostgreSQL database, for a hub that belongs to a cluster.
//!
//! ```text
//! address     Address          the database's address, and how a connection is opened
//! tls         Verified         TLS to the database, with the system's roots
//! connection  Connection       a connection that is opened anew when it broke; prepared statements, deadlines
//! schema      migrate          tables as an ordered list of migrations, and whose they are
//! lease       Lease            the right of a hub to write: each transaction checks it
//! turns       …                the right of one hub of several to change the table of LLMs
//! feed        …                what other hubs have changed
//! shared      …                what several hubs need beside the store's trait
//! processes   …                the processes that had it
//! columns     Value, Row       values and rows of `crate::store::columns`
//! transaction run              lists of changes in one transaction, with a known ending
//! quotas      Quotas           the bytes of open tasks within a transaction
//! tasks       …                statements for durable tasks
//! parts       …                large texts of tasks, in parts of 1 MiB
//! large       Large            lists with large texts: a queue for each owner, beside the writer
//! writer      Writer           jobs in order; waiting writes share a commit
//! commit      …                the writer's commits, and what is pending after one that failed
//! cleanup     Cleanup          deletion of what is past its retention or over a quota
//! ```
//!
//! One thread has a runtime of its own and six connections: for writes, for large texts, for reads, for searches, for deletions,
//! for the lease.
//! With several hubs it has one more, for turns and the feed.

mod address;
mod cleanup;
mod columns;
mod commit;
mod connection;
mod feed;
mod large;
mod lease;
mod parts;
mod processes;
mod quotas;
mod schema;
mod shared;
mod store;
mod tasks;
#[cfg(test)]
mod tests;
mod tls;
mod transaction;
mod turns;
mod writer;

pub use feed::Merge;
pub use store::PostgresStore;
