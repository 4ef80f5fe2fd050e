//! `chat-llm`: sends chat requests to a model through the hub.

mod prompt;
mod repl;
mod screen;

use std::{
    io::{self, IsTerminal as _, Read as _},
    path::PathBuf,
};

use actix_web::http::Method;
use own_files::OwnFile;
use serde_json::{Value, json};

use crate::{
    chat::{self, ChatOptions},
    cli::{ChatArgs, Global},
    client::HubClient,
    config::{Paths, plain},
    exit::{Failure, Outcome},
    output,
    signals::Signals,
};
use prompt::Prompt;
use repl::Conversation;
use screen::Screen;

/// Text of the spinner before the answer.
const WAITING: &str = "waiting for the model";
/// Text of the spinner during reasoning that is not shown.
const THINKING: &str = "the model thinks";
/// Longest text from standard input, in bytes: the limit of the hub.
const MAX_INPUT: u64 = 32 << 20;

pub(crate) async fn run(global: &Global, args: &ChatArgs, signals: Signals) -> Outcome {
    let hub = super::hub_client(global)?;
    let Some(message) = &args.message else {
        let route = chat::find_route(&hub, &args.name).await?;
        let prompt = Prompt::start(history(global, args)?);
        let mut conversation = Conversation::new(&hub, route, &args.name, options(args), args.system.clone());
        return conversation.run(prompt, signals).await;
    };
    super::until_signal(signals, once(&hub, args, message)).await
}

/// Path of the history file; `None` without a history. A folder or file that other users can write is not used.
fn history(global: &Global, args: &ChatArgs) -> Result<Option<PathBuf>, Failure> {
    if args.no_history || !Prompt::is_terminal() {
        return Ok(None);
    }
    let home = Paths::find(global)?.home;
    let file = home.join("chat-history");
    let why = match own_files::folder(&home) {
        Ok(None) => match OwnFile::open(&file).and_then(OwnFile::trusted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => plain(&error),
            _ => return Ok(Some(file)),
        },
        Ok(Some(doubt)) => doubt.to_string(),
        // The folder is missing or unusable, which other commands report.
        Err(_) => return Ok(None),
    };
    output::note(format!("nothing is kept of what you type: {why}"));
    Ok(None)
}

async fn once(hub: &HubClient, args: &ChatArgs, message: &str) -> Outcome {
    let message = if message == "-" { standard_input()? } else { message.to_owned() };
    let messages = first_messages(args.system.as_deref(), &message);
    if args.enqueue { enqueue(hub, args, &messages).await } else { one_shot(hub, args, &messages).await }
}

/// First messages of a conversation.
fn first_messages(system: Option<&str>, message: &str) -> Vec<Value> {
    let system = system.map(|text| json!({ "role": "system", "content": text }));
    system.into_iter().chain([json!({ "role": "user", "content": message })]).collect()
}

fn options(args: &ChatArgs) -> ChatOptions {
    ChatOptions { temperature: args.temperature, max_tokens: args.max_tokens, streaming: !args.no_stream }
}

async fn one_shot(hub: &HubClient, args: &ChatArgs, messages: &[Value]) -> Outcome {
    let route = chat::find_route(hub, &args.name).await?;
    let request = options(args).request(messages);
    let mut screen = Screen::start();
    let outcome = chat::ask(hub, &route, &request, |delta| screen.show(delta)).await;
    // Ends the line after a failure too: the shell's prompt would follow on it.
    screen.end(outcome.as_ref().ok())?;
    let answer = outcome?;
    answer.outcome()
}

async fn enqueue(hub: &HubClient, args: &ChatArgs, messages: &[Value]) -> Outcome {
    let options = ChatOptions { streaming: false, ..options(args) };
    let body = json!({ "llm": args.name, "request": options.request(messages), "streaming": false });
    let task = hub.call(Method::POST, "/api/v1/inference-tasks", Some(&body)).await?;
    match task["id"].as_str() {
        Some(id) => output::line(output::printable(id)),
        None => Err(Failure::failed(format!("the hub at {} named no task", hub.url()))),
    }
}

fn standard_input() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        output::note("Reading from the terminal; end with Ctrl-D.");
    }
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
    if text.trim().is_empty() {
        return Err(Failure::usage("standard input is empty: there is nothing to say"));
    }
    Ok(text)
}
