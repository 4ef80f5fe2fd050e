//! The records of the hub: users and tokens, rows and names, tasks and the audit. Views for callers are in `wire::row`,
//! and the rules of the records' life in `registry` and `tasks`.

mod identity;
mod rows;
mod tasks;

pub use identity::{Caller, Role, SessionRecord, Token, UserId};
pub use rows::{Agent, Llm, NameRecord, OwnedName, PoolAdmission, Upstream};
pub use tasks::{AuditRecord, DurableTask, TaskStatus};
