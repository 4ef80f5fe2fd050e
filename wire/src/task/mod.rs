//! Tasks on the control channel (SPEC.md sections 3.3 and 4).

mod endpoint;
mod headers;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::ids::{InvalidId, TaskId};
use crate::json::quote;
use headers::CallerHeaders;

pub use endpoint::Endpoint;
pub use headers::{CALLER_HEADERS, is_caller_header};

/// One dispatch of work.
#[derive(Debug, Clone)]
pub enum Task {
    /// Runs an inference.
    Infer(InferTask),
    /// Starts a backend.
    Wake(WakeTask),
}

/// A task to run an inference.
#[derive(Debug, Clone)]
pub struct InferTask {
    /// Id of this dispatch.
    pub id: TaskId,
    /// The wire name of the provider.
    pub llm_name: String,
    /// Whether the answer is streamed in chunks.
    pub streaming: bool,
    /// The request body, a JSON object.
    pub request: Box<RawValue>,
    /// The endpoint, for [`Endpoint::parse`]; `None` is chat completions.
    pub endpoint: Option<String>,
    /// Headers of the caller by lower-case name, from [`CALLER_HEADERS`] only.
    pub headers: Vec<(String, String)>,
}

/// A task to start a backend.
#[derive(Debug, Clone)]
pub struct WakeTask {
    /// Id of this dispatch.
    pub id: TaskId,
    /// The wire name of the provider.
    pub llm_name: String,
}

/// Why the data of an event is not a task. It does not quote the data, which can contain a prompt.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTask {
    /// Not JSON, or a key of another type.
    #[error("malformed task (line {line}, column {column})", line = .0.line(), column = .0.column())]
    Json(#[source] serde_json::Error),
    /// A required key is missing.
    #[error("task without {0}")]
    Missing(&'static str),
    /// An id that is not valid in a path.
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

impl Task {
    /// Parses the data of `event: task`. Unknown keys are ignored.
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

    /// Returns the id of the dispatch.
    pub fn id(&self) -> &TaskId {
        match self {
            Self::Infer(task) => &task.id,
            Self::Wake(task) => &task.id,
        }
    }

    /// Returns the wire name of the provider.
    pub fn llm_name(&self) -> &str {
        match self {
            Self::Infer(task) => &task.llm_name,
            Self::Wake(task) => &task.llm_name,
        }
    }
}

/// Formats the data of an `infer` task: the text before the request and the text after it. The request between them is a JSON object
/// in one line. The default endpoint is left out for classic registrars.
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

/// Formats the data of a `wake` task.
pub fn wake_data(id: &TaskId, llm_name: &str) -> String {
    serde_json::json!({ "kind": "wake", "taskId": id.as_str(), "llmName": llm_name }).to_string()
}

/// The data of `event: cancel`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancel {
    /// The task whose caller disconnected.
    pub task_id: TaskId,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F09: members of the request are passed on unchanged.
    #[test]
    fn large_integers_and_unknown_keys_of_a_request_are_kept() {
        let data = r#"{"kind":"infer","taskId":"t1","llmName":"a","streaming":true,"x":1,
            "request":{"seed":18446744073709551615,"new_key":[1.10]}}"#;
        let Task::Infer(task) = Task::parse(data).unwrap() else { panic!("a wake") };
        assert!(task.streaming);
        assert_eq!(task.request.get(), r#"{"seed":18446744073709551615,"new_key":[1.10]}"#);
    }

    #[test]
    fn infer_and_wake_tasks_are_read_back() {
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

    /// F08, F09: malformed data can contain a prompt, so the error must not quote it.
    #[test]
    fn the_error_of_a_malformed_task_quotes_nothing() {
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
}
