//! Heartbeats that come over a link (SPEC.md section 4, `beat`): one at a time, as POSTs on one connection are.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use wire::link::Frame;

use super::Fault;
use crate::error::{ApiError, Dialect};
use crate::http::registrar::heartbeat_frame;
use crate::hub::Hub;
use crate::model::Caller;
use crate::news::news;
use crate::quota::BytesPermit;

/// The heartbeat of a link that was not answered yet.
pub(super) enum Beat {
    Idle,
    /// Resolves with the frame of the answer.
    Taken(LocalBoxFuture<'static, Bytes>),
}

impl Beat {
    /// Takes a heartbeat; `held` counts its body, or says that its user has too much unread. A registrar that sends one before
    /// the answer to the last one was written would have the hub keep any number of answers.
    pub(super) fn begin(
        &mut self,
        hub: &Arc<Hub>,
        caller: &Caller,
        number: u64,
        body: Bytes,
        held: Result<BytesPermit, ApiError>,
    ) -> Result<(), Fault> {
        if matches!(self, Self::Taken(_)) {
            return Err("a heartbeat before the answer to the last one");
        }
        let (hub, caller) = (hub.clone(), caller.clone());
        let answering = async move {
            let taken = match held {
                Ok(held) => heartbeat_frame(&hub, &caller, body, held).await,
                Err(error) => Err(error),
            };
            let (status, body) = match taken {
                Ok(body) => (200, body),
                Err(error) => (refused(&hub, &caller, &error), error.body(Dialect::Api)),
            };
            Frame::Beaten { number, status, body: body.into() }.encode()
        };
        *self = Self::Taken(answering.boxed_local());
        Ok(())
    }

    /// The answer, once.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        let Self::Taken(answering) = self else { return Poll::Pending };
        let answer = std::task::ready!(answering.poll_unpin(cx));
        *self = Self::Idle;
        Poll::Ready(answer)
    }
}

/// Logs and counts a refusal, as that of a POST. Returns its status.
fn refused(hub: &Hub, caller: &Caller, error: &ApiError) -> u16 {
    if let Some(limit) = error.limit {
        hub.watch.machine.refused_by(limit);
    }
    let status = error.status().as_u16();
    if status != 401 {
        let code = error.kind.code();
        let user = &caller.user;
        news!(info, "heartbeats refused", user, [user = user], "heartbeat of {user}: {status} {code}");
    }
    status
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use serde_json::json;

    use super::*;
    use crate::clock;
    use crate::tests::publisher::{Publisher, provider};
    use crate::tests::support::hub;

    /// A38: a link ends within a second after its token was revoked. Until then, its heartbeats are refused.
    #[actix_rt::test]
    async fn a_heartbeat_on_a_link_does_not_outlive_its_token() {
        let hub = hub().await;
        let secret = hub.member("bob").await;
        let session = Publisher::register(&hub, &secret, None, &[provider("bo")]).await.session;
        let (caller, _) = hub.core().tokens.check(&secret, clock::now()).unwrap();
        for expected in [200, 401] {
            let (mut beat, body) = (Beat::Idle, json!({ "providerSessionId": session }).to_string());
            beat.begin(hub.core(), &caller, 7, body.into(), Ok(BytesPermit::default())).unwrap();
            let answer = poll_fn(|cx| beat.poll_answer(cx)).await;
            let Ok(Some(Frame::Beaten { number, status, .. })) = Frame::decode(&answer) else {
                panic!("{answer:?}")
            };
            assert_eq!((number, status), (7, expected));
            hub.revoke("bob").await;
        }
        hub.stop().await;
    }
}
