//! `add`: from a backend that runs to a line in the configuration.

use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value, json};

use crate::{
    cli::{AddArgs, Global},
    client,
    config::{self, Places},
    discover::{self, Found},
    exit::{Failure, Outcome},
    output,
};

/// Runs it.
pub(crate) async fn run(global: &Global, args: &AddArgs) -> Outcome {
    let places = Places::find(global)?;
    let shown = places.config.display().to_string();
    let mut file = config::read_json(&places.config)?.unwrap_or_else(|| Value::Object(Map::new()));
    if !file.is_object() {
        return Err(Failure::usage(format!("{shown}: expected an object")));
    }
    let found = find(args).await?;
    let known = providers(&mut file, &shown)?;
    let is_terminal = io::stdin().is_terminal();
    if !args.yes && args.model.is_none() && !is_terminal {
        return Err(Failure::usage("there is no terminal to ask on: give --yes, or --model MODEL"));
    }
    let mut added = Vec::new();
    for model in &found {
        if let Some(name) = published_as(known, model) {
            output::line(format!("{} is published already, as {name}", output::printable(&model.model)))?;
            continue;
        }
        let named = args.name.clone().filter(|_| added.is_empty());
        let free = match named {
            Some(name) => name,
            None => discover::name(&model.model, |name| has_name(known, name))
                .map(|name| name.to_string())
                .ok_or_else(|| {
                Failure::failed(format!("there is no name for '{}': give --name", model.model))
            })?,
        };
        wire::WireName::parse(&free).map_err(|error| Failure::usage(format!("--name '{free}': {error}")))?;
        if has_name(known, &free) {
            return Err(Failure::usage(format!(
                "{shown} has a provider '{free}' already: give another --name"
            )));
        }
        let choice = if args.yes || args.model.is_some() {
            Some(Choice { name: free, public: args.public })
        } else {
            ask(model, free, args.public).await?
        };
        let Some(choice) = choice else { continue };
        known.push(provider(model, &choice, args.pool.as_deref()));
        added.push(choice.name);
    }
    if added.is_empty() {
        return output::line(format!("Nothing was added to {shown}."));
    }
    config::write_json(&places.config, &file)?;
    output::line(format!("Added to {shown}: {}", added.join(", ")))?;
    let next = if places.credentials.exists() {
        "virtual-llm publish"
    } else {
        "virtual-llm login URL, then virtual-llm publish"
    };
    output::line(format!("Next: {next}"))
}

/// How a person wants it.
struct Choice {
    name: String,
    public: bool,
}

async fn find(args: &AddArgs) -> Result<Vec<Found>, Failure> {
    let mut found = match &args.url {
        None => {
            let found = discover::usual(&client::for_backend("")?).await;
            if found.is_empty() {
                return Err(Failure::failed(
                    "no backend answers on this machine (Ollama 11434, LM Studio 1234, vLLM 8000, llama.cpp 8080): \
                     start one, or give --url URL",
                ));
            }
            found
        }
        Some(url) => {
            let url =
                config::url::api_base(url).map_err(|why| Failure::usage(format!("--url '{url}': {why}")))?;
            let client = client::for_backend(&url)?;
            discover::at(&client, &url).await.map_err(|why| {
                Failure::failed(format!("cannot ask {url} for its models: {why}; is the backend running?"))
            })?
        }
    };
    let Some(model) = &args.model else { return Ok(found) };
    let all: Vec<_> = found.iter().map(|found| output::printable(&found.model).into_owned()).collect();
    found.retain(|found| found.model == *model);
    found.truncate(1);
    if found.is_empty() {
        return Err(Failure::failed(format!(
            "no backend has the model '{model}'; there is {}",
            all.join(", ")
        )));
    }
    Ok(found)
}

/// The list that the file has, at the top level or under `llm`; made under `llm` where there is none.
fn providers<'a>(file: &'a mut Value, shown: &str) -> Result<&'a mut Vec<Value>, Failure> {
    let at_top = file.get("providers").is_some();
    let list = if at_top {
        &mut file["providers"]
    } else {
        let llm = &mut file["llm"];
        if llm.is_null() {
            *llm = json!({});
        }
        if !llm.is_object() {
            return Err(Failure::usage(format!("{shown}: llm: expected an object")));
        }
        &mut llm["providers"]
    };
    if list.is_null() {
        *list = json!([]);
    }
    let path = if at_top { "providers" } else { "llm.providers" };
    list.as_array_mut().ok_or_else(|| Failure::usage(format!("{shown}: {path}: expected a list")))
}

fn published_as<'a>(known: &'a [Value], found: &Found) -> Option<&'a str> {
    let same = |url: &str| {
        config::url::api_base(&url.replacen("//localhost", "//127.0.0.1", 1)).as_deref() == Ok(&found.url)
    };
    let provider = known.iter().find(|provider| {
        provider["model"] == found.model.as_str()
            && provider["url"].as_str().is_some_and(same)
            && provider["publish"] == true
    })?;
    provider["publishName"].as_str().or_else(|| provider["name"].as_str())
}

fn has_name(known: &[Value], name: &str) -> bool {
    known.iter().any(|provider| provider["name"] == name || provider["publishName"] == name)
}

fn provider(found: &Found, choice: &Choice, pool: Option<&str>) -> Value {
    let mut provider = json!({
        "name": choice.name,
        "type": found.server.kind,
        "model": found.model,
        "url": found.url,
        "publish": true,
        "visibility": if choice.public { "public" } else { "private" },
    });
    if let Some(pool) = pool {
        provider["poolName"] = json!(pool);
    }
    provider
}

async fn ask(found: &Found, name: String, public: bool) -> Result<Option<Choice>, Failure> {
    let what = format!("{} ({} at {})", output::printable(&found.model), found.server.label, found.url);
    if !yes(&format!("Publish {what}? [Y/n] "), true).await? {
        return Ok(None);
    }
    let written = answer(&format!("Name at the hub [{name}]: ")).await?;
    let name = if written.is_empty() { name } else { written };
    wire::WireName::parse(&name).map_err(|error| Failure::usage(format!("'{name}': {error}")))?;
    let public = public || yes("May everybody at the hub use it? [y/N] ", false).await?;
    Ok(Some(Choice { name, public }))
}

async fn yes(question: &str, default: bool) -> Result<bool, Failure> {
    Ok(match answer(question).await?.to_lowercase().as_str() {
        "" => default,
        word => word.starts_with('y'),
    })
}

/// One line from the person, read on a thread that nobody waits for: Ctrl-C must end the program meanwhile.
async fn answer(question: &str) -> Result<String, Failure> {
    output::note_piece(question);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        drop(sender.send(io::stdin().read_line(&mut line).map(|read| (read, line))));
    });
    match receiver.await {
        Ok(Ok((read, line))) if read > 0 => Ok(line.trim().to_owned()),
        _ => Err(Failure::failed("no answer was given: nothing was written")),
    }
}
