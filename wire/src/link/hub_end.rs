//! The hub's end of a link, and the connections that carry it one after another.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use super::flow::Violation;
use super::frame::Frame;
use super::received::Received;
use super::state::{Link, Tables};

/// A [`Link`] whose connections are numbered. A registrar may be back while the hub still holds its last connection: that
/// one is given no frame of the link any more, and none of its frames counts.
#[derive(Debug, Default)]
pub struct HubEnd {
    link: Link,
    /// Number of connections so far.
    connections: u64,
    /// Number of the connection that carries the link, 0 if none does.
    carrier: u64,
    /// Number of connections that have not ended.
    open: usize,
}

impl HubEnd {
    /// Begins a connection. Returns its number, and the tables of its hello. An older one carries the link until the
    /// registrar has answered.
    pub fn connect(&mut self) -> (u64, Tables) {
        self.connections += 1;
        self.open += 1;
        (self.connections, self.link.tables())
    }

    /// Ends a connection, once. Returns whether it carried the link.
    pub fn disconnect(&mut self, connection: u64) -> bool {
        self.open = self.open.saturating_sub(1);
        let carried = self.is_carried_by(connection);
        if carried {
            self.release();
        }
        carried
    }

    /// Takes the link from the connection that carries it.
    pub fn release(&mut self) {
        self.carrier = 0;
        self.link.disconnect();
    }

    /// Whether the connection carries the link.
    pub fn is_carried_by(&self, connection: u64) -> bool {
        self.carrier == connection
    }

    /// Whether the link has neither a task nor a connection.
    pub fn is_unused(&self) -> bool {
        self.link.is_empty() && self.open == 0
    }

    /// Has a connection carry the link in place of an older one, with the tables of the registrar's resume. Tells the
    /// registrar what has changed since the hello. The tasks that it does not know are removed and returned.
    pub fn resume(&mut self, connection: u64, tables: &Tables) -> Result<Vec<Arc<str>>, Violation> {
        self.link.check(tables)?;
        self.release();
        let lost = self.link.resume(tables)?;
        self.carrier = connection;
        self.link.tell(tables);
        Ok(lost)
    }

    /// Takes a frame that came on a connection. One that does not carry the link says nothing new: hello and resume of the
    /// other told each end what the other has.
    pub fn receive(&mut self, connection: u64, frame: Frame<'_>) -> Result<Received, Violation> {
        if !self.is_carried_by(connection) {
            return Ok(Received::Nothing);
        }
        let is_of_a_hub = matches!(
            frame,
            Frame::Hello(_)
                | Frame::Taken { .. }
                | Frame::Cancel { .. }
                | Frame::Superseded
                | Frame::Going(_)
                | Frame::Beaten { .. }
        );
        if is_of_a_hub { Err(Violation::WrongEnd) } else { self.link.receive(frame) }
    }

    /// The next frame that is not a piece, for a connection that ends.
    pub fn next_control(&mut self, connection: u64) -> Option<Bytes> {
        if self.is_carried_by(connection) { self.link.next_control() } else { None }
    }

    /// The next frame to send on a connection; `None` until something changes.
    pub fn next_frame(&mut self, connection: u64) -> Option<Bytes> {
        if self.is_carried_by(connection) { self.link.next_frame() } else { None }
    }
}

impl Deref for HubEnd {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

impl DerefMut for HubEnd {
    fn deref_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}
