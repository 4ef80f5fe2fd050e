//! A caller's request body: parsed once, then sent with few changes and without a copy of the rest.

mod pieces;
mod usage_options;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wire::json::{inspect_request, member};
use wire::prompt::PromptSpans;
use wire::request_policy::{Edits, PolicyReport};
use wire::task::Endpoint;

use crate::affinity::{BLOCK, CallKeys, behind_attribution};
use crate::error::ApiError;
use crate::model::UserId;
use crate::offload::offload;
use crate::quota::BytesPermit;
use crate::registry::Candidate;
use crate::telemetry::Limit;

pub(super) use usage_options::UsageOptions;

/// Most `model` keys in one body. Readers take the last one; all are replaced.
const MAX_MODELS: usize = 16;
/// Largest `metadata` that is searched for a user's id, in bytes: twice what OpenAI accepts, 16 pairs of 64 and 512 letters.
const MAX_METADATA: usize = 16 << 10;
/// Maximum length of the JSON of a `model`, and of the name of a conversation, in bytes: that of 512 escaped characters.
const MAX_NAME: usize = 512 * 6 + 2;

/// One JSON object in one line of UTF-8, at most 128 levels deep.
#[derive(Clone)]
pub(crate) struct RequestBody {
    text: Bytes,
    /// The spans of the `model` values, in order.
    models: Vec<Range<usize>>,
    /// The span of the last `stream` value.
    stream: Option<Range<usize>>,
    /// The span of the last `stream_options` value.
    stream_options: Option<Range<usize>>,
    /// The span of the last `thread` value.
    thread: Option<Range<usize>>,
    /// Where the prompt is, and what names its conversation.
    prompt: PromptSpans,
    /// What the request asks of the backend besides a response: to fetch addresses, run tools or keep data.
    report: Arc<PolicyReport>,
    /// The agent whose prompt and parameters were added.
    agent: Option<Arc<AppliedAgent>>,
    /// Counts the text until its last piece is dropped, also on a publisher's channel.
    held: Arc<BytesPermit>,
}

/// A text with the permit that counts it.
struct CountedText {
    text: Bytes,
    _held: Arc<BytesPermit>,
}

impl AsRef<[u8]> for CountedText {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

struct AppliedAgent {
    owner: UserId,
    /// What the request asked for before the agent's part was added.
    asked: Arc<PolicyReport>,
}

/// Prints the size only: prompts are never logged.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({} bytes)", self.text.len())
    }
}

impl RequestBody {
    /// Parses `text` in one pass, without a copy.
    pub(crate) fn parse(mut text: Vec<u8>) -> Result<Self, ApiError> {
        if std::str::from_utf8(&text).is_err() {
            return Err(ApiError::bad_request("the request's body is not UTF-8"));
        }
        let found = inspect_request(&mut text, ["model", "stream", "stream_options", "thread"]);
        let ([models, mut streams, mut options, mut threads], report, prompt) =
            found.map_err(ApiError::bad_json)?;
        if models.len() > MAX_MODELS {
            let text = format!("the request's body has 'model' more than {MAX_MODELS} times");
            return Err(ApiError::bad_request(text).refused_by(Limit::RequestShape));
        }
        let report = Arc::new(report);
        let held = Arc::default();
        Ok(Self {
            text: text.into(),
            models,
            stream: streams.pop(),
            stream_options: options.pop(),
            thread: threads.pop(),
            prompt,
            report,
            agent: None,
            held,
        })
    }

    /// Counts the text with `held`.
    #[must_use]
    pub(crate) fn counted(self, held: BytesPermit) -> Self {
        let held = Arc::new(held);
        let text = Bytes::from_owner(CountedText { text: self.text, _held: held.clone() });
        Self { text, held, ..self }
    }

    /// Parses a text that was derived from this request, and counts it in the same quota.
    pub(crate) fn derive(&self, text: Vec<u8>) -> Result<Self, ApiError> {
        let held = self.held.another(text.len())?;
        Ok(Self::parse(text)?.counted(held))
    }

    /// Counts a derived text in the same quota, without parsing it.
    pub(super) fn derive_bytes(&self, text: Vec<u8>) -> Result<Bytes, ApiError> {
        let held = Arc::new(self.held.another(text.len())?);
        Ok(Bytes::from_owner(CountedText { text: text.into(), _held: held }))
    }

    /// Marks the request as derived from `asked` by an agent of `owner`.
    #[must_use]
    pub(crate) fn by_agent(self, owner: UserId, asked: &Self) -> Self {
        Self { agent: Some(Arc::new(AppliedAgent { owner, asked: asked.report.clone() })), ..self }
    }

    /// What `user` asks for with this request that only the row's owner may ask for. What an agent of the row's owner adds
    /// is allowed; what another user's agent adds is not. `None` if everything is allowed.
    fn asked(&self, user: &str, candidate: &Candidate) -> Option<&PolicyReport> {
        self.asked_at(user, &candidate.owner, candidate.allow_remote_urls)
    }

    /// Does the same for a row of `owner`; `open` if the row allows everything to everybody.
    fn asked_at(&self, user: &str, owner: &str, open: bool) -> Option<&PolicyReport> {
        if open {
            return None;
        }
        match &self.agent {
            Some(agent) if agent.owner != owner => Some(&self.report),
            _ if user == owner => None,
            Some(agent) => Some(&agent.asked),
            None => Some(&self.report),
        }
    }

    /// Why the row of `candidate` refuses this request, if it does.
    pub(crate) fn refused_by(&self, user: &str, candidate: &Candidate) -> Option<ApiError> {
        let refused = self.report.refusal(self.asked(user, candidate)?)?;
        Some(ApiError::bad_request(refused.text(candidate.shown_name())).about(&refused.param))
    }

    /// Whether a row of `owner` refuses this request; `open` if the row allows everything to everybody.
    pub(crate) fn is_refused_at(&self, user: &str, owner: &str, open: bool) -> bool {
        self.asked_at(user, owner, open).is_some_and(|asked| self.report.refusal(asked).is_some())
    }

    /// The request as sent to the row of `candidate`, with the edits that apply to users other than its owner.
    pub(super) async fn for_row(
        &self,
        user: &str,
        candidate: &Candidate,
        endpoint: Endpoint,
    ) -> Result<Cow<'_, Self>, ApiError> {
        if let Some(error) = self.refused_by(user, candidate) {
            return Err(error);
        }
        let Some(asked) = self.asked(user, candidate) else { return Ok(Cow::Borrowed(self)) };
        let edits = self.report.edits(asked, self.as_str(), endpoint);
        if edits.is_empty() {
            return Ok(Cow::Borrowed(self));
        }
        let whole = self.clone();
        offload(user, self.size(), move || Ok(Cow::Owned(whole.edited(&edits)?))).await
    }

    /// Applies `edits`, after which the request asks for nothing forbidden.
    fn edited(&self, edits: &Edits) -> Result<Self, ApiError> {
        let text = edits.applied(self.as_str());
        let held = self.held.another(text.len())?;
        let edited = Self {
            text: text.into(),
            models: self.models.iter().filter_map(|span| edits.moved(span)).collect(),
            stream: self.stream.as_ref().and_then(|span| edits.moved(span)),
            stream_options: self.stream_options.as_ref().and_then(|span| edits.moved(span)),
            thread: self.thread.as_ref().and_then(|span| edits.moved(span)),
            // A member was picked already.
            prompt: PromptSpans::default(),
            report: Arc::default(),
            agent: None,
            held: Arc::default(),
        };
        Ok(edited.counted(held))
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn as_str(&self) -> &str {
        // Checked by `parse`; only ASCII was changed since.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The `model`; of several the last, as JSON readers do. `None` if it is missing, null or empty.
    pub(crate) fn model(&self) -> Result<Option<String>, ApiError> {
        let Some(span) = self.models.last() else { return Ok(None) };
        let json = &self.text[span.clone()];
        if json.starts_with(b"\"") && json.len() > MAX_NAME {
            // Unknown, whatever it is: not copied.
            return Err(ApiError::model_not_found(&String::from_utf8_lossy(&json[1..MAX_NAME])));
        }
        let model: Option<String> = serde_json::from_slice(&self.text[span.clone()])
            .map_err(|_| ApiError::bad_request("'model' in the request's body is not a string"))?;
        Ok(model.filter(|model| !model.is_empty()))
    }

    /// Whether the request asks for a stream and `endpoint` has streams. A `stream` other than true, false and null is an
    /// error: a caller that sent `"true"` would wait for events that never come.
    pub(crate) fn streaming(&self, endpoint: Endpoint) -> Result<bool, ApiError> {
        let asked = match self.stream() {
            Some(b"true") => true,
            Some(b"false" | b"null") | None => false,
            Some(_) => {
                let text = "'stream' in the request's body is neither true nor false";
                return Err(ApiError::bad_request(text));
            }
        };
        Ok(asked && endpoint.can_stream())
    }

    /// Whether the request has the new messages of a conversation alone, the rest of which Anthropic's API holds: its `thread`
    /// is neither null nor the begin of a conversation, `{"type":"create"}`.
    pub(crate) fn continues_thread(&self) -> bool {
        let thread = self.thread.as_ref().and_then(|span| std::str::from_utf8(&self.text[span.clone()]).ok());
        thread.is_some_and(|json| json != "null" && member(json, "type") != Some("\"create\""))
    }

    /// The JSON text of its `stream`; of duplicates the last.
    pub(super) fn stream(&self) -> Option<&[u8]> {
        self.stream.as_ref().map(|span| &self.text[span.clone()])
    }

    /// What tells the conversation of this request, `session` the caller's name for it if a header has one.
    pub(super) fn conversation_keys<'a>(&'a self, session: Option<&'a [u8]>) -> CallKeys<'a> {
        let PromptSpans { tools, system, messages, opening, previous_response, .. } = &self.prompt;
        // Many conversations begin with a greeting: the answers to it tell them apart.
        let block = opening.start + BLOCK.saturating_sub(tools.len() + system.len());
        let opening = opening.start..opening.end.max(block.min(messages.end));
        let name = || self.conversation_name().or_else(|| self.name_at(previous_response));
        let part = |span: &Range<usize>| self.text.get(span.clone()).unwrap_or_default();
        CallKeys {
            name: session.or_else(|| name().map(str::as_bytes)),
            opening: [part(tools), behind_attribution(part(system)), part(&opening)],
            prompt: self.prompt.size(),
        }
    }

    /// The name that all calls of the conversation have, as JSON.
    pub(crate) fn conversation_name(&self) -> Option<&str> {
        let PromptSpans { cache_key, metadata, conversation, .. } = &self.prompt;
        let metadata = || self.text_at(metadata, MAX_METADATA);
        let user = || member(metadata()?, "user_id").filter(|json| is_name(json));
        self.name_at(cache_key).or_else(user).or_else(|| self.name_at(conversation))
    }

    /// The JSON at `span`, if it can name a conversation. A longer one names none: it would be hashed with each call.
    fn name_at(&self, span: &Range<usize>) -> Option<&str> {
        self.text_at(span, MAX_NAME).filter(|json| is_name(json))
    }

    fn text_at(&self, span: &Range<usize>, most: usize) -> Option<&str> {
        // The whole text is not checked to be UTF-8 again.
        let json = self.text.get(span.clone()).filter(|json| json.len() <= most)?;
        std::str::from_utf8(json).ok()
    }
}

/// Whether a JSON value can name a conversation.
fn is_name(json: &str) -> bool {
    !matches!(json, "" | "null" | "\"\"" | "{}" | "[]" | "false" | "true")
}

#[cfg(test)]
mod tests;
