//! The pool of idle connections, and the servers whose connections are used once.

use std::rc::{Rc, Weak};

use tokio::time::{Instant, sleep};

use super::{Client, Connection, Inner, KEEP_ALIVE, Origin, Writing};

/// Most idle connections to one origin: enough for a burst of answers of a provider with a large `maxConcurrency`. Further
/// connections are closed.
const MAX_IDLE: usize = 1024;

/// Most servers in the list of those that sent unsolicited bytes. A member may run any number of such servers, so the list is
/// limited: the oldest entry is dropped, and added again when the server does it again.
pub(in crate::http) const MAX_DISTRUSTED: usize = 1024;

/// The place in the pool to which a connection goes back.
pub(in crate::http) struct PoolSlot {
    pub(super) client: Client,
    pub(super) origin: Origin,
    /// Whether the server has probably read the whole request.
    pub(super) is_taken: bool,
}

impl PoolSlot {
    /// Puts a connection into the pool after one request and its one answer, unless other bytes came.
    pub(in crate::http) fn give_back(&self, mut connection: Connection) {
        if connection.has_spoken_unasked() {
            self.client.0.distrust(&self.origin);
        } else if self.is_taken && connection.is_done() {
            self.client.put(&self.origin, connection);
        }
    }
}

impl Client {
    /// Takes an idle connection to `origin` that can write a body in this way.
    pub(super) fn take(&self, origin: &Origin, body: Writing) -> Option<Connection> {
        loop {
            // The connection that was given back last is most likely still open.
            let (since, mut connection) = {
                let mut idle = self.0.idle.borrow_mut();
                let connections = idle.get_mut(origin)?;
                let last = connections.iter().rposition(|(_, connection)| connection.writes(body))?;
                connections.remove(last)
            };
            // A connection that the server closed, or on which unsolicited bytes came, is dropped.
            if since.elapsed() < KEEP_ALIVE && connection.is_quiet() {
                return Some(connection);
            }
            if connection.has_spoken_unasked() {
                self.0.distrust(origin);
            }
        }
    }

    fn put(&self, origin: &Origin, connection: Connection) {
        if self.0.is_distrusted(origin) {
            return;
        }
        let mut idle = self.0.idle.borrow_mut();
        if idle.values().map(Vec::len).sum::<usize>() >= self.0.max_idle {
            return;
        }
        let connections = idle.entry(Rc::clone(origin)).or_default();
        if connections.len() < MAX_IDLE {
            connections.push((Instant::now(), connection));
        }
        if !self.0.is_swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.0)));
        }
    }
}

impl Inner {
    pub(super) fn is_distrusted(&self, origin: &Origin) -> bool {
        self.unasked.borrow().contains(origin)
    }

    /// Adds `origin` to the list of distrusted servers, and drops its idle connections.
    pub(super) fn distrust(&self, origin: &Origin) {
        self.idle.borrow_mut().remove(origin);
        if self.is_distrusted(origin) {
            return;
        }
        let mut unasked = self.unasked.borrow_mut();
        unasked.push_back(Rc::clone(origin));
        if unasked.len() > MAX_DISTRUSTED {
            unasked.pop_front();
        } else {
            // The address is private to its owner, so it is not logged. The list's limit also limits these lines.
            log::warn!(
                "a backend said more than it was asked for: no connection to it is used twice any more"
            );
        }
    }
}

/// Closes connections that are idle for too long, until none is left, so that no socket to a stopped server remains.
async fn sweep(client: Weak<Inner>) {
    loop {
        sleep(KEEP_ALIVE).await;
        let Some(client) = client.upgrade() else { return };
        let mut unasked = Vec::new();
        client.idle.borrow_mut().retain(|origin, connections| {
            if connections.iter_mut().any(|(_, connection)| connection.has_spoken_unasked()) {
                unasked.push(Rc::clone(origin));
            }
            connections.retain(|(since, connection)| since.elapsed() < KEEP_ALIVE && !connection.is_over());
            !connections.is_empty()
        });
        for origin in &unasked {
            client.distrust(origin);
        }
        if client.idle.borrow().is_empty() {
            client.is_swept.set(false);
            return;
        }
    }
}
