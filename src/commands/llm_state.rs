//! States of LLMs as the console shows them, for `get llm --status`.

use std::{collections::HashMap, time::Duration};

use actix_web::http::Method;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;
use wire::sse::Decoder;

use crate::{cli::LlmState, client::HubClient, exit::Failure};

/// Longest wait for the hub's snapshot, which it sends at once.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a row with what the hub's events have of its work.
fn state(status: &Value, live: &Value) -> LlmState {
    match status.as_str() {
        _ if live["waking"] == true => LlmState::Waking,
        Some("hibernating") => LlmState::Asleep,
        Some("active") => {
            let room = live["room"].as_u64().filter(|room| *room > 0);
            let is_busy = room.is_some_and(|room| live["busy"].as_u64().is_some_and(|busy| busy >= room));
            if is_busy { LlmState::Busy } else { LlmState::Ready }
        }
        _ => LlmState::Away,
    }
}

/// Keeps the rows that are in the state `wanted`.
pub(super) async fn only(hub: &HubClient, wanted: LlmState, rows: Value) -> Result<Value, Failure> {
    let live = match wanted {
        LlmState::Ready | LlmState::Busy | LlmState::Waking | LlmState::Asleep => live(hub).await?,
        LlmState::Away | LlmState::Active => HashMap::new(),
    };
    let fits = |row: &Value| {
        let of_row = row["name"].as_str().and_then(|name| live.get(name));
        let state = state(&row["status"], of_row.unwrap_or(&Value::Null));
        state == wanted || wanted == LlmState::Active && state == LlmState::Ready
    };
    let Value::Array(mut rows) = rows else { return Ok(rows) };
    rows.retain(fits);
    Ok(Value::Array(rows))
}

/// The rows of the first event `snapshot` of the hub, by name. A classic hub has no events: then nothing is known of the work.
async fn live(hub: &HubClient) -> Result<HashMap<String, Value>, Failure> {
    let mut answer = match hub.send(Method::GET, "/api/v1/events", None, SNAPSHOT_TIMEOUT).await {
        Ok(answer) => answer,
        Err(error) if error.status.is_some_and(|status| status.as_u16() == 404) => return Ok(HashMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut decoder = Decoder::new();
    let read = async {
        while let Some(Ok(bytes)) = answer.next().await {
            decoder.feed(&bytes);
            while let Some(event) = decoder.next_event() {
                if event.event.as_deref() == Some("snapshot") {
                    return serde_json::from_str::<Value>(&event.data).ok();
                }
            }
        }
        None
    };
    let snapshot = timeout(SNAPSHOT_TIMEOUT, read).await.ok().flatten().ok_or_else(|| {
        Failure::failed(format!("the hub at {} did not say which LLMs have work: try again", hub.url()))
    })?;
    let rows = snapshot["llms"].as_object().cloned().unwrap_or_default();
    Ok(rows.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_states_are_those_of_the_console() {
        for (status, live, expected) in [
            ("active", json!({ "busy": 1, "room": 2, "waking": false }), LlmState::Ready),
            ("active", json!({ "busy": 2, "room": 2, "waking": false }), LlmState::Busy),
            ("active", json!({ "busy": 9, "room": null, "waking": false }), LlmState::Ready),
            ("active", json!({ "busy": 0, "room": 0, "waking": false }), LlmState::Ready),
            ("active", Value::Null, LlmState::Ready),
            ("hibernating", json!({ "busy": 0, "room": 2, "waking": true }), LlmState::Waking),
            ("hibernating", json!({ "busy": 0, "room": 2, "waking": false }), LlmState::Asleep),
            ("inactive", json!({ "busy": 0, "room": 2, "waking": false }), LlmState::Away),
        ] {
            assert_eq!(state(&json!(status), &live), expected, "{status} {live}");
        }
    }
}
