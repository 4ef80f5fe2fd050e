//! One connection of a link: reads frames, and writes them from a task of its own.

mod frames;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_codec::{Decoder, Encoder};
use actix_http::ws;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use wire::Features;
use wire::link::{Going, Link, MAX_FRAME};

use super::{LinkPolicy, RegistrarLink};
use crate::hub_client::connection::Io;

/// Time in which the hub has to say hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the pings that keep proxies from closing the connection.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes that are written at once.
const MAX_WRITE: usize = 64 << 10;
/// Longest header of a WebSocket frame (RFC 6455 section 5.2).
const MAX_HEADER: usize = 14;

/// What came on a link.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// The hub's hello.
    Hello { features: Features, stream_id: String },
    /// The data of a task.
    Task(String),
    /// Nobody waits for the task any more.
    Cancel(Arc<str>),
    /// A newer channel of this session was opened. A registrar that opened it itself reads no more here.
    Superseded,
    /// The hub shuts down, and finishes its tasks on this link.
    Going(Going),
    /// Any byte counts as life.
    Alive,
    /// The link is of no use any more, for this reason. The last event.
    Broken(&'static str),
}

/// How a connection ended, as far as it says something about links.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The registrar dropped it, or it has not ended.
    Left,
    /// It broke, or the hub broke the rules.
    Broke,
    /// The hub closed it with a word.
    Closed,
    /// The hub said no hello in time.
    Silent,
}

const SILENT: &str = "the hub opened a link and said nothing";

/// An open link. Dropping it closes its connection at once; what was not taken is sent on the next one.
pub(crate) struct LinkChannel {
    state: Rc<RegistrarLink>,
    read: ReadHalf<Box<dyn Io>>,
    input: BytesMut,
    codec: ws::Codec,
    /// Events that were read and not returned yet.
    ready: VecDeque<LinkEvent>,
    hello_by: Option<Instant>,
    opened_at: Instant,
    /// Number of this connection.
    connection: u64,
    end: End,
    policy: Rc<RefCell<LinkPolicy>>,
    writer: JoinHandle<()>,
}

impl LinkChannel {
    pub(in crate::hub_client) fn new(
        state: Rc<RegistrarLink>,
        connection: Box<dyn Io>,
        input: BytesMut,
        policy: Rc<RefCell<LinkPolicy>>,
    ) -> Self {
        state.is_connected.set(true);
        state.refused_since.set(None);
        state.is_going.set(false);
        state.beats.disconnected();
        state.connection.set(state.connection.get() + 1);
        let (read, write) = split(connection);
        let writer = actix_rt::spawn(write_frames(Rc::clone(&state), write));
        let (now, number) = (Instant::now(), state.connection.get());
        Self {
            state,
            read,
            input,
            codec: ws::Codec::new().client_mode().max_size(MAX_FRAME),
            ready: VecDeque::new(),
            hello_by: Some(now + HELLO_TIMEOUT),
            opened_at: now,
            connection: number,
            end: End::Left,
            policy,
            writer,
        }
    }

    /// The next event; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<LinkEvent> {
        let mut has_read = false;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let ended = match self.decode() {
                Ok(true) => continue,
                Ok(false) if has_read => return Some(LinkEvent::Alive),
                Ok(false) => match self.read().await {
                    Ok(true) => {
                        has_read = true;
                        continue;
                    }
                    Ok(false) => None,
                    Err(reason) => Some(LinkEvent::Broken(reason)),
                },
                Err(reason) => Some(LinkEvent::Broken(reason)),
            };
            if self.end == End::Left {
                self.end = End::Broke;
            }
            return ended;
        }
    }

    /// Reads what there is. `false` at the end of the connection.
    async fn read(&mut self) -> Result<bool, &'static str> {
        self.input.reserve(MAX_WRITE);
        let reading = self.read.read_buf(&mut self.input);
        let read = match self.hello_by {
            Some(until) => timeout_at(until, reading).await.map_err(|_| {
                self.end = End::Silent;
                SILENT
            })?,
            None => reading.await,
        };
        Ok(read.is_ok_and(|bytes| bytes > 0))
    }

    /// Takes one frame from the input. `false` if there is none.
    fn decode(&mut self) -> Result<bool, &'static str> {
        let frame =
            self.codec.decode(&mut self.input).map_err(|_| "the hub sent an invalid WebSocket frame")?;
        match frame {
            // The decoder looks at the length of a message when it has all of it.
            None if self.input.len() > MAX_FRAME + MAX_HEADER => {
                return Err("the hub sent a message that is too long");
            }
            None => return Ok(false),
            Some(ws::Frame::Binary(bytes)) => self.frame(&bytes)?,
            Some(ws::Frame::Ping(bytes)) => {
                self.state.pong.set(Some(bytes));
                self.state.writable.notify_one();
            }
            Some(ws::Frame::Pong(_)) => self.state.beats.ponged(),
            Some(ws::Frame::Close(_)) => {
                self.end = End::Closed;
                return Err("the hub closed the link");
            }
            Some(ws::Frame::Text(_) | ws::Frame::Continuation(_)) => return Err("the hub sent a text"),
        }
        Ok(true)
    }
}

impl Drop for LinkChannel {
    fn drop(&mut self) {
        self.writer.abort();
        let (mut policy, now, lived) = (self.policy.borrow_mut(), Instant::now(), self.opened_at.elapsed());
        match self.end {
            End::Broke | End::Closed if self.state.is_going.get() => policy.restarts(now),
            End::Silent => policy.failed(SILENT.to_owned(), now),
            End::Broke => policy.broke(lived, now),
            End::Closed => policy.closed(),
            End::Left => policy.left(lived),
        }
        drop(policy);
        if self.state.connection.get() == self.connection {
            self.state.disconnected();
        }
    }
}

impl std::fmt::Debug for LinkChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkChannel")
    }
}

/// Writes the frames of the link until the connection breaks. Everything that is ready goes in one write.
async fn write_frames(state: Rc<RegistrarLink>, mut write: WriteHalf<Box<dyn Io>>) {
    let mut codec = ws::Codec::new().client_mode();
    let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut out = BytesMut::new();
    loop {
        out.clear();
        if let Some(bytes) = state.pong.take() {
            let _ = codec.encode(ws::Message::Pong(bytes), &mut out);
        }
        fill(&mut state.link.borrow_mut(), &mut codec, &mut out);
        if out.is_empty() {
            tokio::select! {
                () = state.writable.notified() => continue,
                _ = ping.tick() => {
                    let _ = codec.encode(ws::Message::Ping(Bytes::new()), &mut out);
                    state.beats.pinged();
                }
            }
        }
        // The reader sees a broken connection, too.
        if write.write_all(&out).await.is_err() || write.flush().await.is_err() {
            return;
        }
        state.progress.notify_waiters();
    }
}

fn fill(link: &mut Link, codec: &mut ws::Codec, out: &mut BytesMut) {
    while out.len() < MAX_WRITE
        && let Some(frame) = link.next_frame()
    {
        // Fails only for an unfinished continuation, which is never sent.
        let _ = codec.encode(ws::Message::Binary(frame), out);
    }
}

#[cfg(test)]
mod tests;
