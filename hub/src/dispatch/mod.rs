//! Relaying: from a caller's request through a publisher to the caller's answer.
//!
//! [`run`] chooses a member, wakes it where needed, dispatches, and waits for the first content; until then the caller
//! has had no byte, and another member may be tried. From then on pieces flow from the publisher's POSTs
//! ([`submit`], [`upload`]) through one bounded channel into the caller's body ([`Answer`]).

mod answer;
mod attempt;
mod body;
mod call;
mod capacity;
mod encode;
mod failure;
mod receipt;
mod response_channel;
mod responses;
mod run;
mod silence;
mod submit;
mod table;
mod upload;
mod upstream;
mod waiters;
mod wake;
mod whole;

pub(crate) use answer::refusal;
pub use answer::serve;
pub use attempt::{Dispatch, ResponsePiece};
pub use body::RequestBody;
pub use call::Call;
pub use capacity::{Capacity, Reservation, hand_out};
pub use receipt::Promise;
pub use run::{Request, StartedResponse};
pub(crate) use run::{Tried, try_one};
pub use submit::{Rejection, Sender, Submission, Submitted, refuse, submit};
pub use table::DispatchTable;
pub use upload::upload;
pub use wake::Wakes;
pub(crate) use wake::wake;
