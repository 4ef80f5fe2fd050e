//! One inference, from a caller's request to a publisher and back:
//!
//! ```text
//! admit     ActiveCall::admit    takes a permit of the user's call quota and starts the record of the call
//! pick      pick_member          chooses the member with the fewest tasks for its capacity, or queues the caller
//! wake      wake                 starts the backend of a member that sleeps, once for all callers
//! reach     reach_row            waits for a relay if another hub has the publisher's channel
//! dispatch  dispatch_to          registers the task in DispatchTable and sends it on the publisher's channel
//!           The publisher's answers arrive at `http/registrar/results.rs`, or over its link at `http/registrar/link/`.
//! collect   accept_result        checks one result, posted or put together from a link, and writes it to the task's
//!                                ResponseChannel
//!           accept_events        does the same for the events of a stream over a link
//!           UpstreamCall::run    does the same for a public row, which the hub calls itself
//! respond   respond              turns the pieces into one body or a ResponseStream, whose drop cancels the task
//! lose      ChannelGuard::drop    has lose_later end the tasks of a session that is not back after 30 s; for one that is
//!                                back, resend_unstarted sends those without content again
//! ```
//!
//! `serve` does all of it. `run` repeats pick to dispatch with other members until one sends its first content; the
//! caller gets no content before, but after 15 s status 200 and keep-alives.

mod acceptance;
mod assembly;
mod call;
mod caller_queues;
mod capacity;
mod commit;
mod count;
mod encode;
mod end;
mod ended;
mod estimate;
mod event_stream;
mod failure;
mod handle;
mod idle_timeout;
mod outbound;
mod pick;
mod piece;
mod recheck;
mod request;
mod request_body;
mod respond;
mod response_body;
mod response_channel;
mod response_stream;
mod responses_api;
mod result;
mod run;
mod table;
mod tally;
mod upstream;
mod upstream_backends;
mod usage_request;
mod wake;

pub(crate) use acceptance::{Accepted, Rejection};
pub(crate) use assembly::{Assembly, begin_assembly};
pub(crate) use call::ActiveCall;
pub(crate) use capacity::{Capacity, Reservation, run_offers};
pub(crate) use commit::CommitNotifier;
pub(crate) use encode::KEEPALIVE;
pub(crate) use end::EndedBy;
pub(crate) use event_stream::accept_events;
pub(crate) use failure::refusal;
pub(crate) use handle::Dispatch;
pub(crate) use outbound::OutboundCalls;
pub(crate) use pick::TriedMembers;
pub(crate) use piece::{ResponsePiece, StartedResponse};
pub(crate) use recheck::{refuses_now, wake_for};
pub(crate) use request::{InferenceRequest, Priority};
pub(crate) use request_body::RequestBody;
pub(crate) use respond::serve;
pub(crate) use result::{PostedResult, REJECTED, ResultSender, accept_result, reject_result, unwanted};
pub(crate) use run::dispatch_to;
pub(crate) use table::DispatchTable;
pub(crate) use tally::Tally;
pub(crate) use wake::WakeTable;
#[cfg(test)]
pub(crate) use wake::wake;
