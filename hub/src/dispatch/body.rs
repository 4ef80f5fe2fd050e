//! A caller's request as it passes through: read once, looked at in three places, copied where it is small.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use wire::json::{JsonError, inspect_request, quote};
use wire::request_policy::{Edits, PolicyReport};
use wire::task::Endpoint;

use crate::error::ApiError;
use crate::heavy::heavy;
use crate::model::UserId;
use crate::quota::BytesPermit;
use crate::registry::Candidate;

/// Most times that a body may name its model: readers take the last one, each of them is replaced.
const MOST_MODELS: usize = 16;

/// One JSON object in one line of UTF-8, at most 128 deep.
#[derive(Clone)]
pub struct RequestBody {
    text: Bytes,
    /// The values of each `model`, in order.
    models: Vec<Range<usize>>,
    /// The value of the last `stream`.
    stream: Option<Range<usize>>,
    /// What it asks for beyond an answer.
    report: Arc<PolicyReport>,
    /// The agent whose words are in it.
    agent: Option<Arc<ByAgent>>,
    /// What its text counts for, until the last piece of it is gone, be it on a channel.
    held: Arc<BytesPermit>,
}

/// A text, and what it counts for.
struct Counted {
    text: Bytes,
    _held: Arc<BytesPermit>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// An agent's part in a request.
struct ByAgent {
    owner: UserId,
    /// What the request asked for before it had that part.
    asked: Arc<PolicyReport>,
}

/// A prompt is nobody's to print.
impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestBody({} bytes)", self.text.len())
    }
}

impl RequestBody {
    /// Reads `text`: the only pass over it, and no copy of it.
    pub fn parse(mut text: Vec<u8>) -> Result<Self, ApiError> {
        if std::str::from_utf8(&text).is_err() {
            return Err(ApiError::bad_request("the request's body is not UTF-8"));
        }
        let found = inspect_request(&mut text, ["model", "stream", "stream_options"]);
        let ([models, mut streams, _], report) = found.map_err(|error| {
            let refusal = ApiError::bad_request(format!("the request's body is {error}"));
            if let JsonError::OddKey(_, key) = error { refusal.about(key) } else { refusal }
        })?;
        if models.len() > MOST_MODELS {
            let text = format!("the request's body has 'model' more than {MOST_MODELS} times");
            return Err(ApiError::bad_request(text));
        }
        let report = Arc::new(report);
        let held = Arc::default();
        Ok(Self { text: text.into(), models, stream: streams.pop(), report, agent: None, held })
    }

    /// This request, whose text counts for `held`.
    #[must_use]
    pub fn counted(self, held: BytesPermit) -> Self {
        let held = Arc::new(held);
        let text = Bytes::from_owner(Counted { text: self.text, _held: held.clone() });
        Self { text, held, ..self }
    }

    /// What was made of it: it counts for the same user, beside it.
    pub fn made(&self, text: Vec<u8>) -> Result<Self, ApiError> {
        let held = self.held.another(text.len())?;
        Ok(Self::parse(text)?.counted(held))
    }

    /// As [`made`](Self::made), for what is only sent.
    pub(super) fn made_to_send(&self, text: Vec<u8>) -> Result<Bytes, ApiError> {
        let held = Arc::new(self.held.another(text.len())?);
        Ok(Bytes::from_owner(Counted { text: text.into(), _held: held }))
    }

    /// This request as an agent of `owner` made it of `asked`.
    #[must_use]
    pub fn by_agent(self, owner: UserId, asked: &Self) -> Self {
        Self { agent: Some(Arc::new(ByAgent { owner, asked: asked.report.clone() })), ..self }
    }

    /// What `user` asks of it that only the owner of the row may, or who that owner lets: what an agent of the row's owner
    /// adds is its owner's word, what another's adds is not the caller's. `None` where all of it may be asked.
    fn asked(&self, user: &str, candidate: &Candidate) -> Option<&PolicyReport> {
        self.asked_at(user, &candidate.owner, candidate.allow_remote_urls)
    }

    /// The same of any row of `owner`, which is `open` to what others ask for or not.
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

    /// Why it may not go to the row that was chosen.
    pub fn refused_by(&self, user: &str, candidate: &Candidate) -> Option<ApiError> {
        let refused = self.report.refusal(self.asked(user, candidate)?)?;
        Some(ApiError::bad_request(refused.text(candidate.shown_name())).about(&refused.param))
    }

    /// Whether a row of `owner` refuses it, which is `open` to what others ask for or not.
    pub fn is_refused_at(&self, user: &str, owner: &str, open: bool) -> bool {
        self.asked_at(user, owner, open).is_some_and(|asked| self.report.refusal(asked).is_some())
    }

    /// What of it goes to that row, for `endpoint`: with what others than its owner do not get changed.
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
        heavy(user, self.size(), move || Ok(Cow::Owned(whole.edited(&edits)?))).await
    }

    /// The request with these changes. It asks for nothing that it should not.
    fn edited(&self, edits: &Edits) -> Result<Self, ApiError> {
        let text = edits.applied(self.as_str());
        let held = self.held.another(text.len())?;
        let edited = Self {
            text: text.into(),
            models: self.models.iter().filter_map(|span| edits.moved(span)).collect(),
            stream: self.stream.as_ref().and_then(|span| edits.moved(span)),
            report: Arc::default(),
            agent: None,
            held: Arc::default(),
        };
        Ok(edited.counted(held))
    }

    /// Its size in bytes.
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        // Checked when it was read; only ASCII changed since.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The `model` that it names; of duplicates the last, as JSON readers do.
    pub fn model(&self) -> Result<String, ApiError> {
        let Some(span) = self.models.last() else {
            return Err(ApiError::bad_request("the request's body has no 'model', a string"));
        };
        serde_json::from_slice(&self.text[span.clone()])
            .map_err(|_| ApiError::bad_request("'model' in the request's body is not a string"))
    }

    /// Whether it asks for a stream, where `endpoint` has one. What is neither true, false nor null is refused: a
    /// caller who wrote `"true"` would wait for events that never come.
    pub fn streaming(&self, endpoint: Endpoint) -> Result<bool, ApiError> {
        let asked = match self.stream() {
            Some(b"true") => true,
            Some(b"false" | b"null") | None => false,
            Some(_) => {
                let text = "'stream' in the request's body is neither true nor false";
                return Err(ApiError::bad_request(text));
            }
        };
        Ok(asked && !matches!(endpoint, Endpoint::Embeddings | Endpoint::Rerank))
    }

    /// The JSON text of its `stream`; of duplicates the last.
    pub(super) fn stream(&self) -> Option<&[u8]> {
        self.stream.as_ref().map(|span| &self.text[span.clone()])
    }

    /// The text in pieces, each `model` replaced by `model` where one is given: only the names are new bytes.
    pub(super) fn pieces(&self, model: Option<&str>) -> Vec<Bytes> {
        let Some(model) = model else { return vec![self.text.clone()] };
        let model = quote(model);
        let mut pieces = Vec::with_capacity(2 * self.models.len() + 3);
        let mut at = 0;
        if self.models.is_empty() {
            // Before the bracket that closes it.
            let end = self.text.iter().rposition(|byte| *byte == b'}').unwrap_or(0);
            let before = self.text[..end].trim_ascii_end();
            let comma = if before.ends_with(b"{") { "" } else { "," };
            pieces.push(self.text.slice(..end));
            pieces.push(Bytes::from(format!(r#"{comma}"model":{model}"#)));
            at = end;
        } else {
            let model = Bytes::from(model);
            for span in &self.models {
                pieces.push(self.text.slice(at..span.start));
                pieces.push(model.clone());
                at = span.end;
            }
        }
        pieces.push(self.text.slice(at..));
        pieces
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn body(text: &str) -> RequestBody {
        RequestBody::parse(text.into()).unwrap()
    }

    fn with_model(text: &str, model: Option<&str>) -> String {
        String::from_utf8(body(text).pieces(model).concat()).unwrap()
    }

    #[test]
    fn every_model_is_replaced_however_its_key_is_written_and_the_rest_stays_as_it_is() {
        let text = "{\"seed\":18446744073709551615,\r\n \"model\" : \"x\",\"a\":{\"model\":\"y\"},\"m\\u006fdel\":7,\"u\":1.10}\n";
        assert_eq!(
            with_model(text, Some("ro\"w")),
            "{\"seed\":18446744073709551615,   \"model\" : \"ro\\\"w\",\"a\":{\"model\":\"y\"},\"m\\u006fdel\":\"ro\\\"w\",\"u\":1.10} "
        );
        assert_eq!(with_model("{\"model\":\n1}", None), "{\"model\": 1}");
    }

    /// A27: each of them is a piece of its own on the channel.
    #[test]
    fn a_body_that_names_its_model_again_and_again_is_refused() {
        let of = |count: usize| format!(r#"{{{}"model":"y"}}"#, r#""mod\u0065l":"x","#.repeat(count - 1));
        assert_eq!(body(&of(16)).model(), Ok("y".into()));
        let refused = RequestBody::parse(of(17).into()).unwrap_err();
        assert_eq!(refused.message, "the request's body has 'model' more than 16 times");
    }

    #[test]
    fn a_body_without_a_model_gets_one() {
        for (text, with) in [
            ("{}", r#"{"model":"m"}"#),
            (" {\n} ", r#" { "model":"m"} "#),
            (r#"{"a":"}"}"#, r#"{"a":"}","model":"m"}"#),
            (r#"{"a":{}}"#, r#"{"a":{},"model":"m"}"#),
            (r#"{"a":"{" }"#, r#"{"a":"{" ,"model":"m"}"#),
        ] {
            assert_eq!(with_model(text, Some("m")), with);
            assert_eq!(serde_json::from_str::<Value>(with).unwrap()["model"], "m");
        }
    }

    #[test]
    fn stream_is_true_false_or_null_and_anything_else_is_refused_by_its_name() {
        let of = |text: &str, endpoint| body(text).streaming(endpoint);
        for (text, streams) in [
            ("{}", false),
            (r#"{"stream":null}"#, false),
            (r#"{"stream":false}"#, false),
            (r#"{"stream" : true }"#, true),
            (r#"{"stream":"x","str\u0065am":true}"#, true),
        ] {
            assert_eq!(of(text, Endpoint::Responses), Ok(streams), "{text}");
            assert_eq!(of(text, Endpoint::Embeddings), Ok(false), "{text}");
        }
        for value in [r#""false""#, "0", "1.0", "{}", "[true]"] {
            let text = format!(r#"{{"stream":true,"stream":{value}}}"#);
            for endpoint in [Endpoint::Messages, Endpoint::Rerank] {
                let refused = of(&text, endpoint).unwrap_err();
                assert!(refused.message.contains("'stream'"), "{}", refused.message);
            }
        }
    }

    #[test]
    fn a_model_that_is_no_string_is_refused_by_its_name() {
        assert_eq!(body(r#"{"model":1,"model":"\u0061"}"#).model(), Ok("a".into()));
        for text in ["{}", r#"{"model":"a","model":null}"#, r#"{"model":["a"]}"#, r#"{"model":"\ud800"}"#] {
            assert!(body(text).model().unwrap_err().message.contains("'model'"));
        }
    }

    /// Whoever reads keys as texts behind us refuses them, and would be blamed for it.
    #[test]
    fn a_key_with_half_of_a_surrogate_pair_is_refused_and_a_value_passes() {
        for half in [r"k\ud83d", r"\uDC00k", r"\ud83d\u0041", r"\udc00\ud83d", r"\ud83d\n"] {
            for text in [format!(r#"{{"model":"m","{half}":1}}"#), format!(r#"{{"{half}":{{}}, "x":1}}"#)] {
                let error = RequestBody::parse(text.into()).unwrap_err();
                assert_eq!(error.kind.status(), 400, "{half}");
                assert!(error.message.contains("whose name is no text"), "{}", error.message);
            }
            body(&format!(r#"{{"x":"{half}","y":{{"{half}":1}}}}"#));
        }
        for whole in [r"\ud83d\ude00", r"\\ud83d", "😀", r"\u0041\n"] {
            body(&format!(r#"{{"{whole}":1}}"#));
        }
    }

    #[test]
    fn what_is_no_object_of_json_in_utf_8_is_refused() {
        for text in [&b"\xff"[..], b"{\"a\":\"\xc3\"}", b"[]", b"", b"{", b"{} x"] {
            assert!(RequestBody::parse(text.into()).is_err(), "{text:?}");
        }
    }
}
