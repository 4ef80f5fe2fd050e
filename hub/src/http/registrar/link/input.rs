//! What a link's connection reads: WebSocket frames, and the frames of the registrar in them.

use std::sync::Arc;
use std::task::{Context, Poll};

use actix_codec::Decoder;
use actix_http::ws;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use wire::link::{BodyKind, Frame, MAX_PIECE, Resume};

use super::super::channel::open_channel;
use super::answers::{Pieces, pass_on};
use super::{BURST, Fault, LinkConnection};
use crate::cluster::{HomeTables, Hosted, Route};
use crate::links::{Arrival, CountedPiece};
use crate::news::news;
use crate::quota::BytesPermit;

/// Longest frame behind the resume: a piece, and its task's id.
const MAX_FROM_REGISTRAR: usize = MAX_PIECE + (2 << 10);

/// Bytes of both buffers that are within what a connection is counted for.
const UNCOUNTED_BUFFERS: usize = 8 << 10;

/// Bytes that wait to be written, above which a ping gets no pong.
const MAX_PONGS: usize = 4 << 10;

/// Longest header of a WebSocket frame (RFC 6455 section 5.2).
const MAX_HEADER: usize = 14;

impl LinkConnection {
    /// Reads what there is, at most [`BURST`] bytes, as long as not too much waits to be written. `false` at the end of the
    /// connection.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        let mut read = 0;
        while !self.has_backlog() {
            while let Some(frame) =
                self.codec.decode(&mut self.input).map_err(|_| "a WebSocket frame is invalid")?
            {
                match frame {
                    ws::Frame::Binary(bytes) => {
                        if self.frame(&bytes)? && self.has_backlog() {
                            return Ok(true);
                        }
                    }
                    ws::Frame::Ping(bytes) if self.output.len() < MAX_PONGS => {
                        self.write(ws::Message::Pong(bytes));
                    }
                    // A registrar that does not read gets no pong. It gets one for a ping that comes when it reads again.
                    ws::Frame::Ping(_) | ws::Frame::Pong(_) => (),
                    ws::Frame::Close(_) => return Ok(false),
                    ws::Frame::Text(_) | ws::Frame::Continuation(_) => return Err("a message is not binary"),
                }
            }
            // The decoder looks at the length of a message when it has all of it.
            if self.input.len() > self.max_input + MAX_HEADER {
                return Err("a message is too long");
            }
            if read >= BURST {
                cx.waker().wake_by_ref();
                return Ok(true);
            }
            match self.payload.poll_next_unpin(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Ok(bytes))) => {
                    read += bytes.len();
                    self.input.extend_from_slice(&bytes);
                }
                Poll::Ready(Some(Err(_)) | None) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Counts what is buffered for the registrar's user. What does not fit is little: a link is never ended for it.
    pub(super) fn count_buffers(&mut self) {
        let of_others = self.hosted.as_ref().map_or(0, Hosted::waiting);
        let buffered = self.input.len() + self.output.len() + of_others;
        let bytes = if buffered > UNCOUNTED_BUFFERS { buffered } else { 0 };
        let counted = self.buffered.size();
        if bytes < counted {
            self.buffered.shrink(counted - bytes);
        } else if bytes > counted {
            self.buffered.regrow(bytes - counted);
        }
    }

    fn has_backlog(&self) -> bool {
        self.link.has_backlog(self.connection) || self.hosted.as_ref().is_some_and(Hosted::has_backlog)
    }

    /// Takes a frame. Returns whether an answer begins, which may be decided at once.
    fn frame(&mut self, bytes: &Bytes) -> Result<bool, Fault> {
        let Some(frame) = Frame::decode(bytes).map_err(|_| "a frame is invalid")? else { return Ok(false) };
        if self.channel.is_none() {
            let Frame::Resume(json) = frame else { return Err("the first frame is no resume") };
            self.resume(Resume::parse(&json).ok_or("the resume is invalid")?)?;
            return Ok(false);
        }
        if let Some(hosted) = &self.hosted
            && let Route::At(home) = frame.task().map_or(Route::Here, |task| self.hub.cluster.home(task))
        {
            return if hosted.pass(home, &frame, bytes) {
                Ok(false)
            } else {
                Err("a frame is against the rules")
            };
        }
        match self
            .link
            .receive(self.connection, frame, &self.results)
            .map_err(|_| "a frame is against the rules")?
        {
            Arrival::Answer { task, kind, pieces } => {
                self.answer(task, kind, pieces);
                return Ok(true);
            }
            Arrival::Beat(number, body) => {
                let held = self.results.take(body.len());
                self.beat.begin(&self.hub, &self.caller, number, body, held)?;
            }
            Arrival::Nothing => (),
        }
        Ok(false)
    }

    fn resume(&mut self, resume: Resume) -> Result<(), Fault> {
        let (own, homes) = self.by_home(resume);
        if !self.link.resume(self.connection, &own).map_err(|_| "the resume is invalid")? {
            return Err("the session is gone");
        }
        self.codec = self.codec.clone().max_size(MAX_FROM_REGISTRAR);
        self.max_input = MAX_FROM_REGISTRAR;
        self.greeting = BytesPermit::default();
        let opened =
            open_channel(&self.hub, &self.caller, &self.session, &self.stream_id, Some(self.features));
        self.channel = Some(opened.map_err(|_| "the session is gone")?);
        if let Some(shared) = &self.hub.shared {
            let (session, owner) = (&self.session, &self.caller.user);
            let hosted = self.hub.host(shared, session, &self.stream_id, owner, true, homes);
            self.hosted = Some(hosted);
        }
        Ok(())
    }

    /// What the registrar has of this hub's tasks, and of those of each other home. What no home is waiting for is cancelled as if it were
    /// this hub's.
    fn by_home(&mut self, resume: Resume) -> (Resume, HomeTables) {
        let mut homes = std::mem::take(&mut self.homes);
        for (_, tables) in &mut homes {
            tables.clear();
        }
        let mut own = Resume::default();
        for (task, held) in resume.tasks {
            let home = match self.hub.cluster.home(&task) {
                Route::At(home) => homes.iter_mut().find(|(process, _)| *process == home),
                Route::Here => None,
            };
            let tables = home.map_or(&mut own.tasks, |(_, tables)| tables);
            tables.insert(task, held);
        }
        (own, homes)
    }

    fn answer(&mut self, task: Arc<str>, kind: BodyKind, pieces: mpsc::UnboundedReceiver<CountedPiece>) {
        let pieces = Pieces::new(self.link.clone(), task, pieces);
        let (user, session) = (self.caller.user.clone(), self.session.clone());
        let mut passing = pass_on(self.hub.clone(), user, session, kind, pieces).boxed_local();
        // Most whole answers are one small piece.
        if (&mut passing).now_or_never().is_none() {
            self.answers.push(passing);
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) {
        match self.read(cx) {
            Ok(true) => (),
            Ok(false) => self.is_over = true,
            Err(fault) => {
                news!(
                    warn,
                    "links that broke the rules",
                    &self.caller.user,
                    [user = self.caller.user, session = self.session],
                    "link of {}: {fault}",
                    self.session
                );
                self.close();
            }
        }
    }
}
