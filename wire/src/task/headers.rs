//! Headers of a caller that are passed to its backend.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json::unquote;

/// Headers of a caller that are passed to a backend whose API defines them. The list is closed, so that a hub cannot set any other
/// header at a backend.
pub const CALLER_HEADERS: [&str; 2] = ["anthropic-beta", "anthropic-version"];

/// Maximum length of a value in bytes: a list of some dozen names.
const MAX_HEADER: usize = 1024;

/// Whether a header may be passed on: `name` is in [`CALLER_HEADERS`], and `value` is at most 1,024 bytes of visible ASCII and
/// spaces.
pub fn is_caller_header(name: &str, value: &str) -> bool {
    CALLER_HEADERS.contains(&name)
        && value.len() <= MAX_HEADER
        && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// The headers of a task that may be passed on, of duplicates the last. Others are skipped, whatever their values are.
pub(super) struct CallerHeaders(pub(super) Vec<(String, String)>);

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
                    // An escaped character takes at most six bytes.
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

#[cfg(test)]
mod tests {
    use crate::TaskId;
    use crate::task::{Endpoint, Task, infer_frame};

    #[test]
    fn only_headers_of_the_closed_list_are_passed_on() {
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

    #[test]
    fn the_last_of_repeated_headers_counts() {
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
