//! States of LLMs as the console shows them, for `get llm --status`.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use actix_web::http::{Method, StatusCode};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;
use wire::sse::Decoder;

use crate::{cli::LlmState, client::HubClient, exit::Failure};

/// Longest wait for the hub's snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which no more pages of it come: the hub sends one a second.
const SILENCE: Duration = Duration::from_secs(3);

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
    // Of other rows the status says all.
    let of_status = match wanted {
        LlmState::Ready | LlmState::Busy => "active",
        LlmState::Waking | LlmState::Asleep => "hibernating",
        LlmState::Away | LlmState::Active => "",
    };
    let told = rows.as_array().into_iter().flatten().filter(|row| row["status"] == of_status);
    let names: HashSet<String> = told.filter_map(|row| row["name"].as_str().map(str::to_owned)).collect();
    let live = if names.is_empty() { HashMap::new() } else { live(hub, names).await? };
    let fits = |row: &Value| {
        let of_row = row["name"].as_str().and_then(|name| live.get(name));
        let state = state(&row["status"], of_row.unwrap_or(&Value::Null));
        state == wanted || wanted == LlmState::Active && state == LlmState::Ready
    };
    let Value::Array(mut rows) = rows else { return Ok(rows) };
    rows.retain(fits);
    Ok(Value::Array(rows))
}

/// The rows `names` as the hub's events have them. A classic hub has no events: then nothing is known of the work.
async fn live(hub: &HubClient, mut names: HashSet<String>) -> Result<HashMap<String, Value>, Failure> {
    let mut answer = match hub.send(Method::GET, "/api/v1/events", None, SNAPSHOT_TIMEOUT).await {
        Ok(answer) => answer,
        Err(error) if error.status == Some(StatusCode::NOT_FOUND) => return Ok(HashMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut decoder = Decoder::new();
    let mut rows = HashMap::new();
    // The snapshot comes in pages: the event `snapshot`, then `change`s.
    let read = async {
        while !names.is_empty() {
            // A row that went away since it was listed is in no page.
            let Ok(Some(Ok(bytes))) = timeout(SILENCE, answer.next()).await else { return };
            decoder.feed(&bytes);
            while let Some(event) = decoder.next_event() {
                let mut page: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let Some(llms) = page["llms"].as_object_mut() else { continue };
                // Other rows than the list had are not wanted.
                rows.extend(std::mem::take(llms).into_iter().filter(|(name, _)| names.remove(name)));
            }
        }
    };
    let _ = timeout(SNAPSHOT_TIMEOUT, read).await;
    if rows.is_empty() {
        return Err(Failure::failed(format!(
            "the hub at {} did not say which LLMs have work: try again",
            hub.url()
        )));
    }
    Ok(rows)
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
