//! What a caller asks for.

use std::time::Duration;

use wire::task::Endpoint;

use super::request_body::RequestBody;
use crate::model::Caller;
use crate::registry::Target;

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
    /// The longest wait for a member with capacity (`x-queue-timeout`). Without it, a full target fails at once.
    pub(crate) queue_timeout: Option<Duration>,
}
