//! `chat-llm`: talk to a model through the hub.

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
    chat::{self, Manner},
    cli::{ChatArgs, Global},
    client::HubClient,
    config::{Places, plain},
    exit::{Failure, Outcome},
    output,
    signals::Signals,
};
use prompt::Prompt;
use repl::Conversation;
use screen::Screen;

/// Said while no answer comes: it is loaded, wakes, or has others to answer.
const WAITING: &str = "waiting for the model";
/// Said while it thinks aloud.
const THINKING: &str = "the model thinks";
/// Longest text taken from standard input: the hub takes 32 MiB.
const LONGEST_INPUT: u64 = 32 << 20;

/// Runs it.
pub(crate) async fn run(global: &Global, args: &ChatArgs, signals: Signals) -> Outcome {
    let hub = super::hub_client(global)?;
    let Some(message) = &args.message else {
        let door = chat::find(&hub, &args.name).await?;
        let prompt = Prompt::start(history(global, args)?);
        let mut talk = Conversation::new(&hub, door, &args.name, manner(args), args.system.clone());
        return talk.run(prompt, signals).await;
    };
    super::briefly(signals, once(&hub, args, message)).await
}

/// Where what is typed is kept, if it is: not in a folder where others could put a link to another file, nor in a file that
/// others can write or have made.
fn history(global: &Global, args: &ChatArgs) -> Result<Option<PathBuf>, Failure> {
    if args.no_history || !Prompt::is_terminal() {
        return Ok(None);
    }
    let home = Places::find(global)?.home;
    let file = home.join("chat-history");
    let why = match own_files::folder(&home) {
        Ok(None) => match OwnFile::open(&file).and_then(OwnFile::trusted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => plain(&error),
            _ => return Ok(Some(file)),
        },
        Ok(Some(doubt)) => doubt.to_string(),
        // No folder yet, or one that cannot be used: other commands say so.
        Err(_) => return Ok(None),
    };
    output::note(format!("nothing is kept of what you type: {why}"));
    Ok(None)
}

async fn once(hub: &HubClient, args: &ChatArgs, message: &str) -> Outcome {
    let message = if message == "-" { standard_input()? } else { message.to_owned() };
    let messages = opening(args.system.as_deref(), &message);
    if args.enqueue { enqueue(hub, args, &messages).await } else { one_shot(hub, args, &messages).await }
}

/// The conversation's first messages.
fn opening(system: Option<&str>, message: &str) -> Vec<Value> {
    let system = system.map(|text| json!({ "role": "system", "content": text }));
    system.into_iter().chain([json!({ "role": "user", "content": message })]).collect()
}

/// How the options want it answered.
fn manner(args: &ChatArgs) -> Manner {
    Manner { temperature: args.temperature, max_tokens: args.max_tokens, streaming: !args.no_stream }
}

async fn one_shot(hub: &HubClient, args: &ChatArgs, messages: &[Value]) -> Outcome {
    let door = chat::find(hub, &args.name).await?;
    let request = manner(args).request(messages);
    let mut screen = Screen::start();
    let outcome = chat::ask(hub, &door, &request, |heard| screen.hear(heard)).await;
    // Cut off in mid-answer, the shell's prompt would stand in the same line: so the line is ended either way.
    screen.end(outcome.as_ref().ok())?;
    let answer = outcome?;
    match answer.shortfall() {
        Some(why) if !answer.is_something() => Err(Failure::failed(why)),
        Some(why) => {
            output::note(why);
            Ok(())
        }
        None => Ok(()),
    }
}

async fn enqueue(hub: &HubClient, args: &ChatArgs, messages: &[Value]) -> Outcome {
    let manner = Manner { streaming: false, ..manner(args) };
    let body = json!({ "llm": args.name, "request": manner.request(messages), "streaming": false });
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
        .take(LONGEST_INPUT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read standard input: {error}")))?;
    if text.trim().is_empty() {
        return Err(Failure::usage("standard input is empty: there is nothing to say"));
    }
    Ok(text)
}
