//! What a caller asks for.

use std::time::Duration;

use wire::task::Endpoint;

use super::request_body::RequestBody;
use crate::affinity::{CallKeys, Conversation, member_id};
use crate::hub::Hub;
use crate::model::Caller;
use crate::registry::{Candidate, Room, Target};

/// Which calls are served first (`x-priority`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Priority {
    Normal,
    /// Behind all others that wait. Such a call never goes to a full member.
    Bulk,
}

impl Priority {
    /// Whether a call that waits takes this room: only other than bulk calls are sent ahead.
    pub(super) fn takes(self, room: Room) -> bool {
        room == Room::Free || room == Room::Ahead && self == Self::Normal
    }
}

/// One inference request.
pub(crate) struct InferenceRequest {
    pub(crate) caller: Caller,
    /// The row, pool or agent that was named.
    pub(crate) target: Target,
    pub(crate) endpoint: Endpoint,
    /// Whether the response is streamed in chunks.
    pub(crate) streaming: bool,
    pub(crate) body: RequestBody,
    /// Request headers to forward, of [`wire::task::CALLER_HEADERS`].
    pub(crate) headers: Vec<(String, String)>,
    /// Whether the body's `model` is replaced by the row's.
    pub(crate) set_model: bool,
    /// The conversation that the request belongs to; `None` if any member is as good as another.
    pub(crate) conversation: Option<Conversation>,
    /// Whether the next call may name this one by its answer's id alone, as `previous_response_id`.
    pub(crate) is_chained: bool,
    /// The longest wait for a member, also for one that is away (`x-queue-timeout`). Without it, the call waits only for a slot
    /// of members that report theirs.
    pub(crate) queue_timeout: Option<Duration>,
    pub(crate) priority: Priority,
}

impl InferenceRequest {
    /// Whether the call takes its turn at `candidate` in the hub's line although it does not say how long it waits.
    ///
    /// A member that sleeps is not waited for in the line, since one failed wake fails all calls that wait for it; nor is one that
    /// refuses the request.
    pub(super) fn has_line_at(&self, candidate: &Candidate) -> bool {
        let Candidate { owner, allow_remote_urls, .. } = candidate;
        let is_vain = || self.body.is_refused_at(&self.caller.user, owner, *allow_remote_urls);
        self.queue_timeout.is_none()
            && candidate.reports
            && !self.endpoint.is_count()
            && !(candidate.is_full() && (candidate.asleep || is_vain()))
    }
}

impl Hub {
    /// The conversation of a request of `user` for `target`, a pool; `session` is the caller's name for it.
    ///
    /// The text is read before the registry is locked for the pick. Prefixes are read only for a new conversation.
    pub(crate) fn conversation(
        &self,
        user: &str,
        target: &Target,
        body: &RequestBody,
        session: Option<&[u8]>,
    ) -> Option<Conversation> {
        let call = body.conversation_keys(session);
        let keys = &self.affinity_keys;
        let conversation = Conversation::of(keys, user, &target.name, call)?;
        let is_known = self.registry.lock().affinity.knows(&conversation);
        Some(if is_known { conversation } else { conversation.with_prefixes(keys, call) })
    }

    /// Remembers that the answer with this `id`, as JSON, is of the row `row`: a call of `user` for `target` that continues
    /// it goes there. `former` is the conversation that it was an answer of, if it has a name or a long prompt.
    pub(super) fn name_response(
        &self,
        user: &str,
        target: &Target,
        id: &str,
        row: &str,
        former: Option<&Conversation>,
    ) {
        let call = CallKeys { name: Some(id.as_bytes()), opening: [&[]; 3], prompt: 0 };
        if let Some(conversation) = Conversation::of(&self.affinity_keys, user, &target.name, call) {
            self.registry.lock().affinity.learn(&conversation, member_id(row), former);
        }
    }
}
