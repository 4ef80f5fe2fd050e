//! Passes the answers that come over a link to their callers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use wire::link::BodyKind;

use crate::dispatch::{ResultSender, accept_events, reject_result, unwanted};
use crate::error::ApiError;
use crate::http::body;
use crate::http::registrar::results::{respond, submit};
use crate::hub::Hub;
use crate::links::{CountedPiece, SessionLink};
use crate::model::UserId;

/// Passes an answer of `user` to its caller, and tells the registrar what was decided.
pub(super) async fn pass_on(hub: Arc<Hub>, user: UserId, session: String, kind: BodyKind, pieces: Pieces) {
    let (link, task) = (pieces.link.clone(), pieces.task.clone());
    let home = hub.cluster.home(&task);
    let from = ResultSender { user: &user, session: Some(&session), id: &task, home };
    let answered = match kind {
        BodyKind::Events => respond(accept_events(&hub, from, pieces).await),
        BodyKind::Json => match assemble(&hub, from, pieces).await {
            Some(answered) => answered,
            None => return,
        },
    };
    let status = answered.map_or_else(|error| error.status(), |response| response.status());
    link.take(&task, status.as_u16());
}

/// The body of an answer. A piece counts as consumed when the next one is asked for.
pub(super) struct Pieces {
    link: Arc<SessionLink>,
    task: Arc<str>,
    arriving: mpsc::UnboundedReceiver<CountedPiece>,
    /// Length of the last piece.
    passed: Option<usize>,
    is_whole: bool,
}

impl Pieces {
    pub(super) fn new(
        link: Arc<SessionLink>,
        task: Arc<str>,
        arriving: mpsc::UnboundedReceiver<CountedPiece>,
    ) -> Self {
        Self { link, task, arriving, passed: None, is_whole: false }
    }
}

impl Stream for Pieces {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(length) = self.passed.take() {
            self.link.consumed(&self.task, length);
        }
        if self.is_whole {
            return Poll::Ready(None);
        }
        self.arriving.poll_recv(cx).map(|piece| {
            let CountedPiece { piece, .. } = piece?;
            self.passed = Some(piece.bytes.len());
            self.is_whole = piece.is_last;
            Some(piece.bytes)
        })
    }
}

/// Puts a result together and passes it on. `None` if it broke off: another may come.
async fn assemble(
    hub: &Hub,
    from: ResultSender<'_>,
    mut pieces: Pieces,
) -> Option<Result<HttpResponse, ApiError>> {
    // A registrar must not keep answers open that nobody waits for.
    if let Some(rejection) = unwanted(hub, from) {
        return Some(respond(Err(rejection)));
    }
    let mut result = Vec::new();
    let mut held = hub.results_of(from.user).empty();
    while let Some(bytes) = pieces.next().await {
        if result.len() + bytes.len() > body::RESULT.bytes() {
            let error = body::RESULT.too_large();
            reject_result(hub, from, &error.message);
            return Some(Err(error));
        }
        if let Err(error) = held.grow(bytes.len()) {
            return Some(Err(error));
        }
        result.extend_from_slice(&bytes);
    }
    if pieces.is_whole { Some(submit(hub, from, result, held).await) } else { None }
}
