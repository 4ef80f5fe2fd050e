//! Frames as bytes.
//!
//! ```text
//! kind (1 byte) | length of the task id (2 bytes) | task id (UTF-8) | the rest, by kind
//! ```
//!
//! All numbers are big-endian. A frame that is about no task has an empty id.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Going, MAX_ID};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON: the data of a task (SPEC.md section 3.3), or a result (section 3.5).
    Json,
    /// The SSE text of a streamed answer, with its end mark (section 4, `result-stream`).
    Events,
}

/// A cut of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Position in the body, from 0.
    pub seq: u64,
    /// The kind of the whole body.
    pub kind: BodyKind,
    /// Whether the body ends with this piece.
    pub is_last: bool,
    /// At most [`MAX_PIECE`](super::MAX_PIECE) bytes.
    pub bytes: Bytes,
}

/// What the receiver of a body grants and has taken, as totals since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Bytes that may be sent: payloads, and [`PIECE_OVERHEAD`](super::PIECE_OVERHEAD) for each piece.
    pub granted: u64,
    /// Pieces that need not be kept any more.
    pub taken: u64,
}

/// One message of the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The hub's first frame: JSON.
    Hello(Bytes),
    /// The registrar's first frame, which answers the hello: JSON.
    Resume(Bytes),
    /// A cut of a task or of its answer.
    Piece {
        /// Task id.
        task: &'a str,
        /// The cut.
        piece: Piece,
    },
    /// Credit for the body that the peer sends.
    Credit {
        /// Task id.
        task: &'a str,
        /// The totals.
        credit: Credit,
    },
    /// The hub has decided about an answer, maybe before its end. Nothing of the task need be kept.
    Taken {
        /// Task id.
        task: &'a str,
        /// The HTTP status that a POST of the answer would have had.
        status: u16,
    },
    /// Nobody waits for the task any more.
    Cancel {
        /// Task id.
        task: &'a str,
    },
    /// A newer channel of this session was opened. A registrar that opened it itself reads no more here.
    Superseded,
    /// The hub shuts down. Its tasks go on until the link ends.
    Going(Going),
    /// A heartbeat of the registrar (feature `beat`).
    Beat {
        /// Number of the heartbeat, which its answer repeats.
        number: u64,
        /// Body that a POST of the heartbeat would have had.
        body: Bytes,
    },
    /// The hub's answer to a heartbeat.
    Beaten {
        /// Number of the heartbeat.
        number: u64,
        /// HTTP status that a POST of the heartbeat would have had.
        status: u16,
        /// Body of that response.
        body: Bytes,
    },
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// Shorter than its kind requires, or with bytes left over.
    #[error("a frame of the wrong length")]
    Length,
    /// A task id that is not UTF-8, or that is empty or longer than [`MAX_ID`] where a task is named.
    #[error("a frame without a valid task id")]
    Task,
    /// A flag that is not defined.
    #[error("a piece with unknown flags")]
    Flags,
}

const HELLO: u8 = 1;
const RESUME: u8 = 2;
const PIECE: u8 = 3;
const CREDIT: u8 = 4;
const TAKEN: u8 = 5;
const CANCEL: u8 = 6;
const SUPERSEDED: u8 = 7;
const GOING: u8 = 8;
const BEAT: u8 = 9;
const BEATEN: u8 = 10;

const LAST: u8 = 1;
const EVENTS: u8 = 2;

impl<'a> Frame<'a> {
    /// Writes the frame. Task ids have at most [`MAX_ID`] bytes. A longer one is an error of the caller: the peer refuses it.
    pub fn encode(&self) -> Bytes {
        let (kind, task, payload) = match self {
            Self::Hello(json) => (HELLO, "", json.len()),
            Self::Resume(json) => (RESUME, "", json.len()),
            Self::Piece { task, piece } => (PIECE, *task, 9 + piece.bytes.len()),
            Self::Credit { task, .. } => (CREDIT, *task, 16),
            Self::Taken { task, .. } => (TAKEN, *task, 2),
            Self::Cancel { task } => (CANCEL, *task, 0),
            Self::Superseded => (SUPERSEDED, "", 0),
            Self::Going(_) => (GOING, "", 8),
            Self::Beat { body, .. } => (BEAT, "", 8 + body.len()),
            Self::Beaten { body, .. } => (BEATEN, "", 10 + body.len()),
        };
        let length = u16::try_from(task.len()).unwrap_or(u16::MAX);
        let mut out = BytesMut::with_capacity(3 + usize::from(length) + payload);
        out.put_u8(kind);
        out.put_u16(length);
        out.put_slice(&task.as_bytes()[..usize::from(length)]);
        match self {
            Self::Hello(json) | Self::Resume(json) => out.put_slice(json),
            Self::Piece { piece, .. } => {
                let events = if piece.kind == BodyKind::Events { EVENTS } else { 0 };
                out.put_u8(events | if piece.is_last { LAST } else { 0 });
                out.put_u64(piece.seq);
                out.put_slice(&piece.bytes);
            }
            Self::Credit { credit, .. } => {
                out.put_u64(credit.granted);
                out.put_u64(credit.taken);
            }
            Self::Taken { status, .. } => out.put_u16(*status),
            Self::Cancel { .. } | Self::Superseded => (),
            Self::Going(going) => {
                out.put_u32(going.delay_ms);
                out.put_u32(going.interval_ms);
            }
            Self::Beat { number, body } => {
                out.put_u64(*number);
                out.put_slice(body);
            }
            Self::Beaten { number, status, body } => {
                out.put_u64(*number);
                out.put_u16(*status);
                out.put_slice(body);
            }
        }
        out.freeze()
    }

    /// The id of the task that the frame is about.
    pub fn task(&self) -> Option<&'a str> {
        match self {
            Self::Piece { task, .. }
            | Self::Credit { task, .. }
            | Self::Taken { task, .. }
            | Self::Cancel { task } => Some(task),
            Self::Hello(_)
            | Self::Resume(_)
            | Self::Superseded
            | Self::Going(_)
            | Self::Beat { .. }
            | Self::Beaten { .. } => None,
        }
    }

    /// Reads a frame. `None` for an unknown kind, which is skipped: a newer peer may send it.
    pub fn decode(bytes: &'a Bytes) -> Result<Option<Self>, InvalidFrame> {
        let (&kind, rest) = bytes.split_first().ok_or(InvalidFrame::Length)?;
        let (length, rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (task, rest) = rest.split_at_checked(length).ok_or(InvalidFrame::Length)?;
        let task = std::str::from_utf8(task).map_err(|_| InvalidFrame::Task)?;
        let named = || Some(task).filter(|task| (1..=MAX_ID).contains(&task.len())).ok_or(InvalidFrame::Task);
        let empty = || if rest.is_empty() { Ok(()) } else { Err(InvalidFrame::Length) };
        Ok(Some(match kind {
            HELLO => Self::Hello(bytes.slice_ref(rest)),
            RESUME => Self::Resume(bytes.slice_ref(rest)),
            PIECE => {
                let (&[flags], rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                let (seq, rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                if flags & !(LAST | EVENTS) != 0 {
                    return Err(InvalidFrame::Flags);
                }
                let kind = if flags & EVENTS == 0 { BodyKind::Json } else { BodyKind::Events };
                let (seq, is_last) = (u64::from_be_bytes(*seq), flags & LAST != 0);
                Self::Piece {
                    task: named()?,
                    piece: Piece { seq, kind, is_last, bytes: bytes.slice_ref(rest) },
                }
            }
            CREDIT => {
                let (granted, rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                let taken = rest.try_into().map_err(|_| InvalidFrame::Length)?;
                let (granted, taken) = (u64::from_be_bytes(*granted), u64::from_be_bytes(taken));
                Self::Credit { task: named()?, credit: Credit { granted, taken } }
            }
            TAKEN => {
                let status = rest.try_into().map_err(|_| InvalidFrame::Length)?;
                Self::Taken { task: named()?, status: u16::from_be_bytes(status) }
            }
            CANCEL => {
                empty()?;
                Self::Cancel { task: named()? }
            }
            SUPERSEDED => {
                empty()?;
                Self::Superseded
            }
            GOING => {
                let (delay, rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                let interval = rest.try_into().map_err(|_| InvalidFrame::Length)?;
                let (delay_ms, interval_ms) = (u32::from_be_bytes(*delay), u32::from_be_bytes(interval));
                Self::Going(Going { delay_ms, interval_ms })
            }
            BEAT => {
                let (number, body) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                Self::Beat { number: u64::from_be_bytes(*number), body: bytes.slice_ref(body) }
            }
            BEATEN => {
                let (number, rest) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                let (status, body) = rest.split_first_chunk().ok_or(InvalidFrame::Length)?;
                let (number, status) = (u64::from_be_bytes(*number), u16::from_be_bytes(*status));
                Self::Beaten { number, status, body: bytes.slice_ref(body) }
            }
            _ => return Ok(None),
        }))
    }
}
