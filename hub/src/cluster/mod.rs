//! The hub as one process of a cluster (SPEC.md section 5, cluster).
//!
//! ```text
//! process     Process          one process of a hub: its id and its boot
//!             Cluster, Route   ids of tasks, which name their home, and where that is
//! frame       Frame            messages between processes
//! bus         Bus              what is needed of the network between them
//! nats        Nats             that network over NATS
//! memory_bus  MemoryBus        that network in memory, for tests
//! network     Network          what it does to messages: seeded faults
//! members     Members          the other processes: alive, suspect or dead
//! report      Report           what each process says of itself, and which should get calls
//! pulse       run              beats, and hears those of others
//! peers       Peers            the other processes, as one has them
//! shared      Shared           the table that they share, and the turn to change it
//! digest      keep             the digest of the table of LLMs
//! shares      …                what hubs used of the limits of users and tokens
//! calls       Calls            calls that are passed on to other hubs
//! served      Served           calls that other hubs pass on to this one
//! parts       Parts            the answer of such a call, a part at a time
//! sending     …                parts and questions on their way to other hubs
//! window      Windows          bytes of bodies on their way to each process, in turns of users
//! relay       Hosts, Homes     tasks of one hub on a channel of another one
//! view        …                what it knows of itself and the others, for admins
//! run         run              what a process does with what it learns
//! ```
//!
//! Each hub has the whole table in memory. It changes it in its turn alone (`Hub::table_turn`), when it has read what others have
//! changed, and tells them afterwards. A session belongs to the hub that has its channel, a task to the hub of its caller. Requests
//! about a session are passed on to its hub whole, as HTTP requests, and the answer is passed back a part at a time.

mod bus;
mod calls;
mod digest;
mod ended;
mod frame;
mod members;
#[cfg(test)]
mod memory_bus;
mod nats;
#[cfg(test)]
mod network;
mod parts;
mod peers;
mod process;
mod pulse;
mod relay;
mod report;
mod run;
mod sending;
mod served;
mod shared;
mod shares;
mod view;
mod window;

pub(crate) use calls::{Answer, CallError, CallHead};
pub(crate) use members::State;
pub use nats::{InvalidCredentials, check_credentials};
pub(crate) use peers::Home;
pub use process::{Cluster, Process, Route};
pub(crate) use relay::{HomeTables, Hosted};
pub(crate) use report::Without;
pub use report::{Heard, Report, Reports};
pub(crate) use run::run;
pub(crate) use served::{Forwarded, Handler};
pub(crate) use shared::{Shared, TableTurn};
