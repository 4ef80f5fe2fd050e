//! The progress of a stream of the responses API. An incomplete stream ends with an event that needs it: clients refuse one
//! without a sequence number and a `response`.

use memchr::memmem;
use wire::json::{Object, quote};
use wire::sse::write_event;

use crate::error::{ApiError, ErrorKind};

/// Largest `response` that is kept whole, in bytes. One is kept per call, and no quota counts it.
const MAX_RESPONSE: usize = 16 << 10;
/// Largest piece that is searched as a whole, and most bytes of one stream that are parsed in search of its `response`: some
/// milliseconds on the serving thread.
const MAX_SEARCHED: usize = 2 << 20;
/// Bytes of each end of a larger piece that are searched for a number: an event has it before or behind its text.
const ENDS: usize = 16 << 10;
/// The members of a larger one that are kept, each up to 512 bytes.
const KEPT: [&str; 3] = ["id", "created_at", "model"];

/// The progress of one stream.
#[derive(Debug, Default)]
pub(super) struct ResponsesProgress {
    /// The first `response` object: the final event repeats its id, its model and the rest.
    response: Option<String>,
    /// Bytes that were parsed in search of it.
    searched: usize,
    /// The sequence number of the next event.
    next: u64,
}

impl ResponsesProgress {
    /// Reads whole events, as written by our encoder.
    pub(super) fn update(&mut self, events: &[u8]) {
        let number = if events.len() <= MAX_SEARCHED {
            last_number(events)
        } else {
            last_number(&events[events.len() - ENDS..]).or_else(|| last_number(&events[..ENDS]))
        };
        self.next = match number {
            Some(number) => number.saturating_add(1),
            // The backend numbers no events.
            None => self.next.saturating_add(memmem::find_iter(events, b"\n\n").count() as u64),
        };
        if self.response.is_none()
            && events.len() <= MAX_SEARCHED - self.searched
            && memmem::find(events, br#""response":"#).is_some()
        {
            self.searched += events.len();
            let data = std::str::from_utf8(events).unwrap_or_default().lines();
            let data = data.filter_map(|line| Object::parse(line.strip_prefix("data: ")?).ok());
            let mut found =
                data.filter_map(|event| event.get("response").filter(|text| text.starts_with('{')).map(kept));
            self.response = found.next();
        }
    }

    /// Whether the `response` object was found.
    pub(super) fn has_response(&self) -> bool {
        self.response.is_some()
    }

    /// The id of the response, as JSON. It is parsed at each call.
    pub(super) fn id(&self) -> Option<String> {
        Object::parse(self.response.as_deref()?).ok()?.get("id").map(str::to_owned)
    }

    /// The events that end the stream with a failure. If no event was sent, `response.created` comes first, with `id` and
    /// `model`. `created` is in seconds since 1970.
    pub(super) fn failed(&self, error: &ApiError, model: &str, id: &str, created: i64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut next = self.next;
        let known = self.response.as_deref().and_then(|response| Object::parse(response).ok());
        let mut response = known.unwrap_or_default();
        response.set_default("id", quote(id));
        response.set_default("created_at", created.to_string());
        response.set_default("model", quote(model));
        for (key, value) in [
            ("object", r#""response""#),
            ("incomplete_details", "null"),
            ("instructions", "null"),
            ("metadata", "{}"),
            ("output", "[]"),
            ("parallel_tool_calls", "true"),
            ("temperature", "null"),
            ("tool_choice", r#""auto""#),
            ("tools", "[]"),
            ("top_p", "null"),
            ("usage", "null"),
        ] {
            response.set_default(key, value);
        }
        if next == 0 {
            response.set("status", r#""in_progress""#);
            response.set("error", "null");
            write(&mut out, "response.created", next, &response);
            next += 1;
        }
        response.set("status", r#""failed""#);
        response.set("error", format!(r#"{{"code":"{}","message":{}}}"#, code(error), quote(&error.message)));
        write(&mut out, "response.failed", next, &response);
        out
    }
}

/// The last sequence number in `events`.
fn last_number(events: &[u8]) -> Option<u64> {
    const NUMBER: &[u8] = br#""sequence_number":"#;

    // Within a string the quotes of such a key are escaped.
    let at = memmem::rfind(events, NUMBER)?;
    let digits = events[at + NUMBER.len()..].trim_ascii_start();
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The part of a `response` that is kept.
fn kept(response: &str) -> String {
    if response.len() <= MAX_RESPONSE {
        return response.to_owned();
    }
    let mut kept = Object::default();
    let whole = Object::parse(response).unwrap_or_default();
    for (key, value) in KEPT.into_iter().filter_map(|key| Some((key, whole.get(key)?))) {
        if value.len() <= 512 {
            kept.set(key, value);
        }
    }
    kept.to_string()
}

/// The hub's code of the error. A backend's refusal of the request gets the API's own code, so that clients do not retry.
fn code(error: &ApiError) -> &'static str {
    if error.kind == ErrorKind::Backend && !error.may_fail_over() {
        "invalid_prompt"
    } else {
        error.kind.code()
    }
}

fn write(out: &mut Vec<u8>, name: &str, number: u64, response: &Object<'_>) {
    let data = format!(r#"{{"type":"{name}","sequence_number":{number},"response":{response}}}"#);
    // The hub's own names have no line breaks.
    let _ = write_event(out, Some(name), None, &data);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The names and data of the events that report `error` after the events `said`.
    fn after(said: &[&str], error: &ApiError) -> Vec<(String, Value)> {
        let mut progress = ResponsesProgress::default();
        for events in said {
            progress.update(events.as_bytes());
        }
        let out = String::from_utf8(progress.failed(error, "m", "resp_1", 1_800_000_000)).unwrap();
        let events = out.strip_suffix("\n\n").unwrap().split("\n\n").map(|event| {
            let (name, data) = event.strip_prefix("event: ").unwrap().split_once("\ndata: ").unwrap();
            (name.to_owned(), serde_json::from_str(data).unwrap())
        });
        events.collect()
    }

    const CREATED: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_x\",\"model\":\"gpt\",\"seed\":18446744073709551615,\"output\":[],\"status\":\"in_progress\"}}\n\n";

    #[test]
    fn a_failure_event_has_the_next_number_and_the_response() {
        let delta = "event: d\ndata: {\"type\":\"d\",\"delta\":\"\\\"sequence_number\\\":77\",\"sequence_number\": 41}\n\n";
        let both = format!("{CREATED}{delta}");
        for said in [&[CREATED, delta][..], &[both.as_str()]] {
            let events = after(said, &ApiError::bad_gateway("it \"broke\""));
            assert_eq!(events.len(), 1);
            let (name, data) = &events[0];
            assert_eq!((name.as_str(), &data["type"]), ("response.failed", &"response.failed".into()));
            assert_eq!(data["sequence_number"], 42);
            let response = &data["response"];
            assert_eq!((&response["id"], &response["status"]), (&"resp_x".into(), &"failed".into()));
            assert_eq!(response["seed"], 18_446_744_073_709_551_615_u64);
            assert_eq!(
                response["error"],
                serde_json::json!({ "code": "upstream_error", "message": "it \"broke\"" })
            );
        }
    }

    /// P7: only the id of a large `response` is kept, so that its memory is limited.
    #[test]
    fn only_the_id_of_a_large_response_is_kept() {
        let large = "x".repeat(1 << 20);
        let said = |id: &str| {
            let response = format!(r#"{{"id":"{id}","model":"gpt","tools":["{large}"],"created_at":7}}"#);
            format!(
                "data: {{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{response}}}\n\n"
            )
        };
        let mut progress = ResponsesProgress::default();
        progress.update(said("resp_x").as_bytes());
        assert!(progress.response.as_ref().unwrap().capacity() <= MAX_RESPONSE);
        let events = after(&[&said("resp_x")], &ApiError::bad_gateway("no"));
        let response = &events[0].1["response"];
        assert_eq!((&response["id"], &response["created_at"]), (&"resp_x".into(), &7.into()));
        assert_eq!((&response["model"], &response["tools"]), (&"gpt".into(), &serde_json::json!([])));
        let events = after(&[&said(&large)], &ApiError::bad_gateway("no"));
        assert_eq!(events[0].1["response"]["id"], "resp_1");
    }

    /// A27: events are read on the thread that serves all users.
    #[test]
    fn of_large_events_a_bounded_part_is_read() {
        let elements = "0,".repeat(MAX_SEARCHED / 4);
        let event = |number: &str| format!("data: {{\"response\":5,\"x\":[{elements}0]{number}}}\n\n");
        let mut progress = ResponsesProgress::default();
        for _ in 0..8 {
            progress.update(event("").as_bytes());
        }
        assert!((MAX_SEARCHED / 4..=MAX_SEARCHED).contains(&progress.searched), "{}", progress.searched);
        progress.update(CREATED.as_bytes());
        assert!(progress.has_response(), "a small one is looked at");
        let large = elements.repeat(5);
        let mut progress = ResponsesProgress::default();
        progress.update(
            format!("data: {{\"response\":{{\"id\":[{large}0]}},\"sequence_number\":41}}\n\n").as_bytes(),
        );
        assert_eq!((progress.searched, progress.next), (0, 42));
        progress.update(format!("data: {{\"sequence_number\":43,\"delta\":[{large}0]}}\n\n").as_bytes());
        assert_eq!(progress.next, 44);
    }

    #[test]
    fn a_failure_before_the_first_event_starts_with_response_created() {
        let events = after(&[], &ApiError::backend(429, "later"));
        let of = |at: usize, key: &str| events[at].1[key].clone();
        assert_eq!((events[0].0.as_str(), of(0, "sequence_number")), ("response.created", 0.into()));
        assert_eq!((events[1].0.as_str(), of(1, "sequence_number")), ("response.failed", 1.into()));
        assert_eq!(
            (&of(0, "response")["status"], &of(0, "response")["error"]),
            (&"in_progress".into(), &Value::Null)
        );
        for at in [0, 1] {
            let response = of(at, "response");
            assert_eq!((&response["id"], &response["model"]), (&"resp_1".into(), &"m".into()));
            assert_eq!(
                (&response["created_at"], &response["object"]),
                (&1_800_000_000.into(), &"response".into())
            );
        }
        assert_eq!(of(1, "response")["error"]["code"], "backend_error");
        assert_eq!(
            after(&[], &ApiError::backend(400, "too long"))[1].1["response"]["error"]["code"],
            "invalid_prompt"
        );
    }

    #[test]
    fn events_without_numbers_are_counted() {
        let events = after(
            &["data: {\"a\":1}\n\ndata: {\"response\":7}\n\n", "data: {}\n\n"],
            &ApiError::hub_stopping(),
        );
        assert_eq!((events.len(), &events[0].1["sequence_number"]), (1, &3.into()));
        assert_eq!(events[0].1["response"]["id"], "resp_1");
    }
}
