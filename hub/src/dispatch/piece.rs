//! What publishers and upstreams send for one dispatch.

use bytes::Bytes;

use super::failure::refusal;
use super::handle::Dispatch;
use super::response_body::ResponseBody;
use super::tally::Tally;
use crate::error::{ApiError, is_about_a_key};
use crate::quota::BytesPermit;
use crate::registry::NameRedaction;

/// One piece of a response.
#[derive(Debug)]
pub(crate) enum ResponsePiece {
    /// Complete events for the caller's stream, written by our encoder.
    Events {
        /// Empty if all that came was left out.
        bytes: Bytes,
        /// What the events count for, also those that were left out.
        tally: Tally,
        /// Counts the bytes as unread until they are written to the caller.
        held: BytesPermit,
    },
    /// The end of a streamed response.
    Done,
    /// A whole response.
    Answer {
        /// HTTP status.
        status: u16,
        body: ResponseBody,
        /// Counts the body as unread until it is written to the caller.
        held: BytesPermit,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// The task failed.
    Error(ApiError),
    /// The session opened a new channel before any content. The task may be lost with the old channel: send it again.
    Reattached,
    /// A name of the task was claimed before any content: check whether the publisher may still read it.
    Recheck,
}

/// A response up to its first content.
pub(crate) enum StartedResponse {
    /// A whole response.
    Whole {
        /// HTTP status.
        status: u16,
        body: ResponseBody,
        /// Counts the body as unread.
        held: BytesPermit,
        /// The backend's `Retry-After`, in seconds.
        retry_after: Option<u32>,
    },
    /// A whole response as the events of a stream.
    Expanded {
        bytes: Bytes,
        tally: Tally,
        /// Counts the events as unread.
        held: BytesPermit,
    },
    /// A count of tokens that no backend made.
    Uncounted,
    /// The first piece of a stream. `dispatch` yields the others.
    Stream { first: ResponsePiece, dispatch: Dispatch },
}

impl ResponsePiece {
    /// A whole response of a publisher. A backend's refusal of the publisher's key becomes an error about the publisher.
    pub(super) fn answer(
        status: u16,
        body: ResponseBody,
        held: BytesPermit,
        retry_after: Option<u32>,
    ) -> Self {
        if is_about_a_key(status) {
            Self::Error(refusal(status, body.get()))
        } else {
            Self::Answer { status, body, held, retry_after }
        }
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Events { bytes, .. } => bytes.len(),
            Self::Answer { body, .. } => body.get().len(),
            Self::Error(error) => error.message.len(),
            Self::Done | Self::Reattached | Self::Recheck => 0,
        }
    }

    /// Applies `mask` to the text of a failure.
    pub(super) fn masked(self, mask: &NameRedaction) -> Self {
        match self {
            Self::Error(error) if !mask.is_none() => Self::Error(error.reword(|text| mask.apply(text))),
            Self::Answer { status, body, held, retry_after } if status >= 400 && !mask.is_none() => {
                Self::Answer { status, body: body.reworded(|text| mask.apply(text)), held, retry_after }
            }
            piece => piece,
        }
    }

    /// Attaches the permit that counts this piece as unread.
    pub(super) fn hold(&mut self, permit: BytesPermit) {
        match self {
            Self::Events { held, .. } | Self::Answer { held, .. } => *held = permit,
            Self::Error(_) | Self::Done | Self::Reattached | Self::Recheck => (),
        }
    }
}
