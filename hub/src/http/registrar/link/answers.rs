//! Passes the answers that come over a link to their callers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::link::BodyKind;

use crate::dispatch::{
    Assembly, EndedBy, Rejection, ResultSender, accept_events, begin_assembly, reject_result, unwanted,
};
use crate::error::ApiError;
use crate::http::body;
use crate::http::registrar::results::{respond, submit};
use crate::hub::Hub;
use crate::links::{CountedPiece, SessionLink};
use crate::model::UserId;
use crate::quota::BytesPermit;

/// Memory in bytes of an answer that is put together, besides its own bytes.
const LATE_BYTES: usize = 8 << 10;
/// Time in which an answer has to come whose task has ended. A registrar gives a result up after 60 s.
const LATE_TIMEOUT: Duration = Duration::from_mins(1);

/// Passes an answer of `user` to its caller, and tells the registrar what was decided.
pub(super) async fn pass_on(hub: Arc<Hub>, user: UserId, session: String, kind: BodyKind, pieces: Pieces) {
    let (link, task) = (pieces.link.clone(), pieces.task.clone());
    let home = hub.cluster.home(&task);
    let from =
        ResultSender { user: &user, session: Some(&session), id: &task, home, ended_by: EndedBy::Link };
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

/// Passes an answer that comes over a relay to its caller.
pub(crate) async fn pass_on_answer(
    hub: Arc<Hub>,
    user: UserId,
    session: String,
    link: Arc<SessionLink>,
    (task, kind, pieces): (Arc<str>, BodyKind, mpsc::UnboundedReceiver<CountedPiece>),
) {
    pass_on(hub, user, session, kind, Pieces::new(link, task, pieces)).await;
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
    let assembly = match begin_assembly(hub, from) {
        Ok(assembly) => assembly,
        Err(rejection) => return Some(respond(Err(rejection))),
    };
    let mut held = hub.results_of(from.user).empty();
    let mut result = Vec::new();
    let read = match assembly {
        Assembly::Live(gone) => tokio::select! {
            biased;
            read = read_whole(hub, from, &mut pieces, &mut result, &mut held) => Some(read),
            _ = gone => None,
        },
        Assembly::Late => {
            let Some(_late) = pieces.link.begin_late() else { return Some(respond(Err(Rejection::Busy))) };
            if let Err(error) = held.grow(LATE_BYTES) {
                return Some(Err(error));
            }
            let read = read_whole(hub, from, &mut pieces, &mut result, &mut held);
            let read = timeout(LATE_TIMEOUT, read).await.ok();
            held.shrink(LATE_BYTES);
            read
        }
    };
    match read {
        Some(Ok(true)) => Some(submit(hub, from, result, held).await),
        Some(Ok(false)) => None,
        Some(Err(error)) => Some(Err(error)),
        None => Some(respond(Err(unwanted(hub, from).unwrap_or(Rejection::Conflict)))),
    }
}

/// Reads a result, which `held` counts. `false` if it broke off.
async fn read_whole(
    hub: &Hub,
    from: ResultSender<'_>,
    pieces: &mut Pieces,
    result: &mut Vec<u8>,
    held: &mut BytesPermit,
) -> Result<bool, ApiError> {
    while let Some(bytes) = pieces.next().await {
        if result.len() + bytes.len() > body::RESULT.bytes() {
            let error = body::RESULT.too_large();
            reject_result(hub, from, &error.message);
            return Err(error);
        }
        held.grow(bytes.len())?;
        result.extend_from_slice(&bytes);
    }
    Ok(pieces.is_whole)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;
    use wire::link::{Frame, Piece, Resume};

    use super::*;
    use crate::links::Arrival;
    use crate::tests::publisher::{Publisher, provider};
    use crate::tests::support::{ADMIN, hub};

    /// A24: an answer to a task that has ended is not kept for ever, if its registrar sends a part of it and no more.
    #[actix_rt::test]
    async fn a_late_answer_that_never_ends_is_given_up() {
        let hub = hub().await;
        let mut publisher = Publisher::start(&hub, ADMIN, &[provider("al")], None).await;
        let call = hub.ask("POST", "/v1/chat/completions").body(r#"{"model":"al","messages":[]}"#);
        let task = publisher.serves(&hub, &call, "hello").await;
        let id = task["taskId"].as_str().unwrap();
        let (core, session) = (hub.core(), publisher.session.as_str());
        let user = core.tokens.check(ADMIN, crate::clock::now()).unwrap().0.user;
        let (link, connection, _) = core.links.connect(session, "stream", "", []);
        link.resume(connection, &Resume::default()).unwrap();
        let piece = Piece { seq: 0, kind: BodyKind::Json, is_last: false, bytes: Bytes::from_static(b" ") };
        let results = core.results_of(&user);
        let Ok(Arrival::Answer { task, kind, pieces }) =
            link.receive(connection, Frame::Piece { task: id, piece }, &results)
        else {
            panic!("no answer")
        };
        let pieces = Pieces::new(link.clone(), task, pieces);
        let mut passing = Box::pin(pass_on(core.clone(), user.clone(), session.into(), kind, pieces));
        assert!(futures_util::poll!(&mut passing).is_pending());
        assert!(core.quotas.results.taken_by(&user) >= 8 << 10, "it is not counted");
        tokio::time::pause();
        let start = Instant::now();
        timeout(LATE_TIMEOUT * 2, passing).await.expect("it waits for more");
        assert!(start.elapsed() >= LATE_TIMEOUT, "an honest one has no time");
        tokio::time::resume();
        assert_eq!(core.links.kept(session), [0; 3]);
        assert_eq!(core.quotas.results.taken_by(&user), 0);
        assert_eq!(publisher.post(&hub, &json!({ "taskId": id }), &json!({ "error": "x" })).await, 409);
        hub.stop().await;
    }
}
