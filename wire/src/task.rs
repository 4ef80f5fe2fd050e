//! Tasks on the control channel (SPEC.md sections 3.3 and 4).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{InvalidId, TaskId};
use crate::json::{quote, unquote};

/// One dispatch of work.
#[derive(Debug, Clone)]
pub enum Task {
    /// Answer a request.
    Infer(InferTask),
    /// Bring a backend up.
    Wake(WakeTask),
}

/// Answer a request.
#[derive(Debug, Clone)]
pub struct InferTask {
    /// Names this dispatch.
    pub id: TaskId,
    /// The wire name of the provider.
    pub llm_name: String,
    /// Whether chunks are wanted, or one result.
    pub streaming: bool,
    /// The request body, a JSON object as it came.
    pub request: Box<RawValue>,
    /// What the hub named; see [`Endpoint::parse`]. `None` is chat completions.
    pub endpoint: Option<String>,
    /// Headers of the caller, by lower-case name: those of [`CALLER_HEADERS`] alone.
    pub headers: Vec<(String, String)>,
}

/// Headers of a caller that go with its request, where the backend's API knows them. A closed list: no hub names a
/// header that a backend acts on otherwise.
pub const CALLER_HEADERS: [&str; 2] = ["anthropic-beta", "anthropic-version"];

/// Longest value of such a header: a list of some dozen names.
const MAX_HEADER: usize = 1024;

/// Whether `value` may travel in a header of [`CALLER_HEADERS`]: visible ASCII and blanks, at most 1,024 bytes.
pub fn is_caller_header(name: &str, value: &str) -> bool {
    CALLER_HEADERS.contains(&name)
        && value.len() <= MAX_HEADER
        && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// Bring a backend up.
#[derive(Debug, Clone)]
pub struct WakeTask {
    /// Names this dispatch.
    pub id: TaskId,
    /// The wire name of the provider.
    pub llm_name: String,
}

/// Why an event's data is not a task. No quote of the data: it may hold a prompt.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTask {
    /// Not JSON, or a key of another type.
    #[error("malformed task (line {line}, column {column})", line = .0.line(), column = .0.column())]
    Json(#[source] serde_json::Error),
    /// A key that every task has is not there.
    #[error("task without {0}")]
    Missing(&'static str),
    /// An id that cannot travel in a path.
    #[error("task id: {0}")]
    Id(#[from] InvalidId),
    /// Neither `infer` nor `wake`.
    #[error("task of an unknown kind")]
    Kind,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frame {
    kind: Option<String>,
    task_id: Option<String>,
    llm_name: Option<String>,
    #[serde(default)]
    streaming: Option<bool>,
    request: Option<Box<RawValue>>,
    endpoint: Option<String>,
    #[serde(default)]
    headers: Option<CallerHeaders>,
}

/// Those of a task's headers that may travel, of duplicates the last. Nothing is made of the others, whatever they hold.
struct CallerHeaders(Vec<(String, String)>);

impl<'de> Deserialize<'de> for CallerHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Named;
        impl<'de> Visitor<'de> for Named {
            type Value = CallerHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers: Vec<(String, String)> = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if !CALLER_HEADERS.contains(&name.as_ref()) {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let value = map.next_value::<&RawValue>()?.get();
                    headers.retain(|(other, _)| *other != name);
                    // A character takes six bytes as an escape, at most.
                    let value =
                        Some(value).filter(|value| value.len() <= 6 * MAX_HEADER + 2).and_then(unquote);
                    if let Some(value) = value.filter(|value| is_caller_header(&name, value)) {
                        headers.push((name.into_owned(), value.into_owned()));
                    }
                }
                Ok(CallerHeaders(headers))
            }
        }
        deserializer.deserialize_map(Named)
    }
}

impl Task {
    /// Reads the data of `event: task`. Unknown keys are ignored.
    pub fn parse(data: &str) -> Result<Self, InvalidTask> {
        let frame: Frame = serde_json::from_str(data).map_err(InvalidTask::Json)?;
        let kind = frame.kind.ok_or(InvalidTask::Missing("kind"))?;
        let id = TaskId::parse(frame.task_id.ok_or(InvalidTask::Missing("taskId"))?)?;
        let llm_name = frame.llm_name.ok_or(InvalidTask::Missing("llmName"))?;
        match kind.as_str() {
            "infer" => {
                let request = frame.request.filter(|request| request.get().starts_with('{'));
                Ok(Self::Infer(InferTask {
                    id,
                    llm_name,
                    streaming: frame.streaming.unwrap_or(false),
                    request: request.ok_or(InvalidTask::Missing("request"))?,
                    endpoint: frame.endpoint,
                    headers: frame.headers.map(|headers| headers.0).unwrap_or_default(),
                }))
            }
            "wake" => Ok(Self::Wake(WakeTask { id, llm_name })),
            _ => Err(InvalidTask::Kind),
        }
    }

    /// The id of the dispatch.
    pub fn id(&self) -> &TaskId {
        match self {
            Self::Infer(task) => &task.id,
            Self::Wake(task) => &task.id,
        }
    }

    /// The wire name that the task is for.
    pub fn llm_name(&self) -> &str {
        match self {
            Self::Infer(task) => &task.llm_name,
            Self::Wake(task) => &task.llm_name,
        }
    }
}

/// The data of an `infer` task as the hub writes it: what stands before its request and what stands after. Between them
/// belongs a JSON object in one line, however many pieces it is in. Chat completions are never named, so that a classic
/// registrar sees what it knows.
pub fn infer_frame(
    id: &TaskId,
    llm_name: &str,
    streaming: bool,
    endpoint: Endpoint,
    headers: &[(String, String)],
) -> (String, &'static str) {
    let endpoint = match endpoint {
        Endpoint::ChatCompletions => String::new(),
        named => format!(r#""endpoint":"{}","#, named.as_str()),
    };
    let headers = if headers.is_empty() {
        String::new()
    } else {
        let named: Vec<_> =
            headers.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value))).collect();
        format!(r#""headers":{{{}}},"#, named.join(","))
    };
    let before = format!(
        r#"{{"kind":"infer","taskId":{},"llmName":{},"streaming":{streaming},{endpoint}{headers}"request":"#,
        quote(id.as_str()),
        quote(llm_name)
    );
    (before, "}")
}

/// The data of a `wake` task.
pub fn wake_data(id: &TaskId, llm_name: &str) -> String {
    serde_json::json!({ "kind": "wake", "taskId": id.as_str(), "llmName": llm_name }).to_string()
}

/// The data of `event: cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// The task whose caller went away.
    pub task_id: TaskId,
}

/// The backend paths that a hub may name (feature `endpoints`): a closed list, so that no hub reaches an admin path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `chat/completions`, the default.
    ChatCompletions,
    /// `completions`.
    Completions,
    /// `embeddings`.
    Embeddings,
    /// `responses`.
    Responses,
    /// `messages`.
    Messages,
    /// `rerank`.
    Rerank,
}

impl Endpoint {
    /// The endpoint that a task names; `None` for one outside the list.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        Some(match name {
            None | Some("chat/completions") => Self::ChatCompletions,
            Some("completions") => Self::Completions,
            Some("embeddings") => Self::Embeddings,
            Some("responses") => Self::Responses,
            Some("messages") => Self::Messages,
            Some("rerank") => Self::Rerank,
            Some(_) => return None,
        })
    }

    /// The path below `/v1/`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
            Self::Rerank => "rerank",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F09: what we do not know passes.
    #[test]
    fn a_request_passes_with_its_large_integers_and_unknown_keys() {
        let data = r#"{"kind":"infer","taskId":"t1","llmName":"a","streaming":true,"x":1,
            "request":{"seed":18446744073709551615,"new_key":[1.10]}}"#;
        let Task::Infer(task) = Task::parse(data).unwrap() else { panic!("a wake") };
        assert!(task.streaming);
        assert_eq!(task.request.get(), r#"{"seed":18446744073709551615,"new_key":[1.10]}"#);
    }

    #[test]
    fn what_we_write_is_what_we_read_and_a_classic_frame_has_no_endpoint() {
        let id = TaskId::parse("t/1").unwrap();
        let frame = |endpoint| {
            let (before, after) = infer_frame(&id, "a", false, endpoint, &[]);
            format!(r#"{before}{{"a":1}}{after}"#)
        };
        let data = frame(Endpoint::ChatCompletions);
        assert_eq!(
            data,
            r#"{"kind":"infer","taskId":"t/1","llmName":"a","streaming":false,"request":{"a":1}}"#
        );
        assert!(matches!(Task::parse(&data).unwrap(), Task::Infer(task) if task.id == id));
        let Task::Infer(named) = Task::parse(&frame(Endpoint::Rerank)).unwrap() else { panic!("a wake") };
        assert_eq!((named.endpoint.as_deref(), named.request.get()), (Some("rerank"), r#"{"a":1}"#));
        assert!(matches!(Task::parse(&wake_data(&id, "a")).unwrap(), Task::Wake(task) if task.id == id));
    }

    /// F08, F09: told without a word of the frame.
    #[test]
    fn a_malformed_task_is_an_error_that_quotes_nothing() {
        for data in [
            "",
            "secret",
            "[]",
            "{}",
            r#"{"kind":"secret","taskId":"t","llmName":"a"}"#,
            r#"{"kind":"infer","taskId":"t","llmName":"a"}"#,
            r#"{"kind":"infer","taskId":"t","llmName":"a","request":"secret"}"#,
            r#"{"kind":"infer","taskId":"a\r\nsecret","llmName":"a","request":{}}"#,
            r#"{"kind":"infer","taskId":7,"llmName":"a","request":{}}"#,
        ] {
            let text = Task::parse(data).unwrap_err().to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn an_endpoint_outside_the_list_is_refused() {
        assert_eq!(Endpoint::parse(Some("../slots")), None);
        assert_eq!(Endpoint::parse(None), Some(Endpoint::ChatCompletions));
    }

    #[test]
    fn headers_of_the_closed_list_travel_and_no_others() {
        let id = TaskId::parse("t").unwrap();
        let sent = [("anthropic-beta".to_owned(), "a-1,b-2".to_owned())];
        let (before, after) = infer_frame(&id, "a", true, Endpoint::Messages, &sent);
        let Ok(Task::Infer(task)) = Task::parse(&format!("{before}{{}}{after}")) else { panic!("no task") };
        assert_eq!(task.headers, sent);
        let odd = r#"{"kind":"infer","taskId":"t","llmName":"a","request":{},"headers":
            {"authorization":"Bearer x","anthropic-version":"a\r\nx: y","anthropic-beta":7}}"#;
        let Ok(Task::Infer(task)) = Task::parse(odd) else { panic!("no task") };
        assert_eq!(task.headers, []);
    }

    /// Whatever else is in them, and where: of duplicates the last counts, as JSON readers have it.
    #[test]
    fn of_headers_twice_the_last_travels_and_a_tree_is_none() {
        let of = |headers: &str| {
            let data = format!(
                r#"{{"kind":"infer","taskId":"t","llmName":"a","request":{{}},"headers":{headers}}}"#
            );
            Task::parse(&data).map(|task| match task {
                Task::Infer(task) => task.headers,
                Task::Wake(_) => panic!("a wake"),
            })
        };
        let beta = |value: &str| vec![("anthropic-beta".to_owned(), value.to_owned())];
        assert_eq!(
            of(r#"{"anthropic-beta":"a","x":[[],{}],"anthropic-\u0062eta":"\u0062"}"#).unwrap(),
            beta("b")
        );
        assert_eq!(of(r#"{"anthropic-beta":"a","anthropic-beta":[]}"#).unwrap(), []);
        assert_eq!(
            of(&format!(r#"{{"anthropic-beta":"{}"}}"#, r"\u0061".repeat(1024))).unwrap(),
            beta(&"a".repeat(1024))
        );
        assert_eq!(of(&format!(r#"{{"anthropic-beta":"{}"}}"#, "a".repeat(1025))).unwrap(), []);
        assert_eq!(of("null").unwrap(), []);
        assert!(of("[]").is_err());
    }
}
