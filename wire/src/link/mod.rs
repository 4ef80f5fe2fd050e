//! The link: one connection on which a hub and a registrar exchange tasks and answers (SPEC.md section 4.1).
//!
//! One WebSocket message is one [`Frame`]. A [`Link`] is the state of either end: it cuts bodies into pieces, sends them
//! within the credit that the peer has granted, keeps them until the peer has taken them, and continues on the connection
//! that replaces a broken one. Not here: sockets, WebSocket framing, time.

mod control;
mod flow;
mod frame;
mod going;
mod greeting;
mod hub_end;
mod received;
mod state;

#[cfg(test)]
mod tests;

pub use flow::Violation;
pub use frame::{BodyKind, Credit, Frame, InvalidFrame, Piece};
pub use going::Going;
pub use greeting::{Hello, Resume};
pub use hub_end::HubEnd;
pub use received::Received;
pub use state::{HeldTask, Link, Tables};

/// WebSocket subprotocol by which both sides agree on the link.
pub const SUBPROTOCOL: &str = "virtual-llm.link.1";

/// Longest payload of a piece in bytes. A longer body is cut, so that no other task waits for more than that.
pub const MAX_PIECE: usize = 64 << 10;

/// Bytes of credit that a piece costs besides its payload, so that tiny pieces are bounded too.
pub const PIECE_OVERHEAD: u64 = 64;

/// Credit in bytes with which each body begins, and the most that a receiver keeps granted.
pub const WINDOW: u64 = 256 << 10;

/// Tasks that a registrar may have open on a link, in part or as a whole.
pub const MAX_TASKS: usize = 16_384;

/// Longest task id in a frame, in bytes.
pub const MAX_ID: usize = 256;

/// Longest frame in bytes: a hello or a resume with [`MAX_TASKS`] tasks, of which each takes some 53 bytes.
pub const MAX_FRAME: usize = 1 << 20;
