//! `get task ID --wait`: waits for the end of a task and prints its answer.

use std::time::Duration;

use actix_web::http::Method;
use futures_util::StreamExt as _;
use serde_json::Value;
use wire::ids::encode_uri_component;

use super::{
    cells::text,
    get::{collection, missing},
};
use crate::{
    chat,
    cli::{GetKind, OutputFormat},
    client::HubClient,
    exit::{Code, Failure, Outcome},
    output,
};

/// Longest wait for the head of a stream. The hub answers at once, and then says every 15 s that it is there.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence of a stream.
const MAX_SILENCE: Duration = Duration::from_mins(5);
/// Between two looks at a task, if its stream ended before the task.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(hub: &HubClient, id: &str, format: Option<OutputFormat>) -> Outcome {
    let task = ended(hub, id).await?;
    match format {
        Some(OutputFormat::Json) => output::document(&task, false)?,
        Some(OutputFormat::Yaml) => output::document(&task, true)?,
        Some(OutputFormat::Name) => output::line(format!("task/{}", text(&task, "id")))?,
        None | Some(OutputFormat::Wide) if task["status"] == "completed" => return answer(&task),
        None | Some(OutputFormat::Wide) => {}
    }
    match task["status"].as_str() {
        Some("completed") => Ok(()),
        Some("cancelled") => Err(Failure::failed(format!("the task {id} was cancelled"))),
        _ => {
            let words: Vec<_> = ["error", "code"].into_iter().filter(|key| !task[*key].is_null()).collect();
            let [why, code] = ["error", "code"].map(|key| text(&task, key));
            Err(match words.len() {
                0 => Failure::silent(Code::Failed),
                _ if task["code"].is_null() => Failure::failed(format!("the task {id} failed: {why}")),
                _ => Failure::failed(format!("the task {id} failed: {why} ({code})")),
            })
        }
    }
}

/// Prints the text of a completed task.
fn answer(task: &Value) -> Outcome {
    let answer = chat::of_task(&task["result"])?;
    let said = if answer.text.is_empty() { &answer.refusal } else { &answer.text };
    if !said.is_empty() {
        output::line(output::printable_answer(said.trim_end_matches('\n')))?;
    }
    answer.outcome()
}

/// The task, once it has ended.
async fn ended(hub: &HubClient, id: &str) -> Result<Value, Failure> {
    let path = format!("{}/{}", collection(GetKind::Task), encode_uri_component(id));
    let mut is_away = false;
    loop {
        match hub.find(&path).await {
            Ok(None) => return Err(missing(GetKind::Task, id)),
            Ok(Some(task)) if !matches!(task["status"].as_str(), Some("pending" | "claimed" | "running")) => {
                return Ok(task);
            }
            Ok(Some(_)) => is_away = false,
            // The task outlives a restart of the hub.
            Err(error) if error.status.is_none_or(|status| status.is_server_error()) => {
                if !std::mem::replace(&mut is_away, true) {
                    output::note(format!("warning: {error}"));
                }
            }
            Err(error) => return Err(error.into()),
        }
        if !is_away {
            follow(hub, &format!("{path}/stream")).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Reads the task's stream to its end, which is that of the task. What went wrong is seen at the next look at the task.
async fn follow(hub: &HubClient, path: &str) {
    let Ok(mut stream) = hub.send(Method::GET, path, None, HEAD_TIMEOUT).await else { return };
    while let Ok(Some(Ok(_))) = tokio::time::timeout(MAX_SILENCE, stream.next()).await {}
}
