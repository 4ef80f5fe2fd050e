//! `add`: adds models of running backends to the configuration.

mod pick;

use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value, json};

use crate::{
    cli::{AddArgs, Global},
    config::{self, Paths, names::TakenNames},
    control,
    discover::{self, FoundModel},
    exit::{Failure, Outcome},
    output,
};
use pick::pick;

pub(crate) async fn run(global: &Global, args: &AddArgs) -> Outcome {
    let paths = Paths::find(global)?;
    let shown = paths.config.display().to_string();
    // A broken file is refused before the search. It is read again when the answers are known.
    let mut file = config::read_json(&paths.config)?.unwrap_or_else(|| Value::Object(Map::new()));
    let known = providers(&mut file, &shown)?;
    let found = find(args).await?;
    if !args.yes && args.model.is_none() && !io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on: give --yes, or --model MODEL"));
    }
    let mut offered = Vec::new();
    for model in found {
        match published_as(known, &model) {
            Some(name) => {
                output::line(format!("{} is published already, as {name}", output::printable(&model.model)))?;
            }
            None => offered.push(model),
        }
    }
    let mut settings = Settings { public: args.public, pool: args.pool.clone() };
    let picked = if args.yes || args.model.is_some() || offered.is_empty() {
        with_names(&offered, args.name.clone(), known, &shown)?
    } else {
        let picked = pick(offered, args.name.clone(), known, &shown).await?;
        if !picked.is_empty() {
            settings = settings.ask(args).await?;
        }
        picked
    };
    let mut names = Vec::new();
    if !picked.is_empty() {
        let change = |file: &mut Value| append(&picked, &settings, providers(file, &shown)?, &shown);
        names = config::update_json(&paths.config, change).await?;
    }
    if names.is_empty() {
        return output::line(format!("Nothing was added to {shown}."));
    }
    output::line(format!("Added to {shown}: {}", names.join(", ")))?;
    output::line(format!("Next: {}", next(&paths)))
}

/// A model that is to be added.
#[derive(Debug, Clone)]
struct NamedModel {
    model: FoundModel,
    name: String,
    /// Whether the user gave the name. A proposed name may be replaced by another.
    by_user: bool,
}

/// Adds the picked models to the list as it is now, which others may have changed during the search and the questions.
/// Returns the names.
fn append(
    picked: &[NamedModel],
    settings: &Settings,
    known: &mut Vec<Value>,
    shown: &str,
) -> Result<Vec<String>, Failure> {
    let mut names = taken_names(known);
    let mut added = Vec::new();
    for NamedModel { model, name, by_user } in picked {
        if let Some(name) = published_as(known, model) {
            output::line(format!("{} is published already, as {name}", output::printable(&model.model)))?;
            continue;
        }
        if *by_user {
            checked(name.clone(), known, shown)?;
        }
        let name = names.take_free(name);
        known.push(provider(model, &name, settings));
        added.push(name);
    }
    Ok(added)
}

/// The command that publishes the added models.
fn next(paths: &Paths) -> &'static str {
    if control::has_registrar(paths) {
        "virtual-llm reload (a registrar is running here, and reads the configuration again by it)"
    } else if paths.credentials.exists() {
        "virtual-llm publish"
    } else {
        "virtual-llm login URL, then virtual-llm publish"
    }
}

/// Settings of all added providers.
struct Settings {
    public: bool,
    pool: Option<String>,
}

impl Settings {
    /// Asks for the settings that the options do not have.
    async fn ask(self, args: &AddArgs) -> Result<Self, Failure> {
        let public = args.public || confirm("May everybody at the hub use them? [y/N] ").await?;
        let pool = match self.pool {
            Some(pool) => Some(pool),
            None => Some(answer("Pool that they join [none]: ").await?).filter(|pool| !pool.is_empty()),
        };
        if let Some(pool) = &pool {
            wire::WireName::parse(pool).map_err(|error| Failure::usage(format!("pool '{pool}': {error}")))?;
        }
        Ok(Self { public, pool })
    }
}

/// Adds names: the given one for the first model, free ones for the others.
fn with_names(
    offered: &[FoundModel],
    given: Option<String>,
    known: &[Value],
    shown: &str,
) -> Result<Vec<NamedModel>, Failure> {
    let mut named = Vec::new();
    let mut taken = taken_names(known);
    let mut given = given;
    for model in offered {
        let by_user = given.is_some();
        let name = if let Some(name) = given.take() {
            taken.take_free(&checked(name, known, shown)?)
        } else {
            let name = discover::name(&model.model, &mut taken).map(|name| name.to_string());
            let none = || Failure::failed(format!("there is no name for '{}': give --name", model.model));
            name.ok_or_else(none)?
        };
        named.push(NamedModel { model: model.clone(), name, by_user });
    }
    Ok(named)
}

/// The names of all providers in the file, published or not.
fn taken_names(known: &[Value]) -> TakenNames {
    let names = known.iter().flat_map(|provider| [&provider["name"], &provider["publishName"]]);
    names.filter_map(Value::as_str).collect()
}

fn checked(name: String, known: &[Value], shown: &str) -> Result<String, Failure> {
    wire::WireName::parse(&name).map_err(|error| Failure::usage(format!("--name '{name}': {error}")))?;
    if has_name(known, &name) {
        return Err(Failure::usage(format!("{shown} has a provider '{name}' already: give another --name")));
    }
    Ok(name)
}

async fn find(args: &AddArgs) -> Result<Vec<FoundModel>, Failure> {
    let mut found = match &args.url {
        None => {
            let found = discover::local_models(args.model.as_deref()).await?;
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
            discover::models_at(&url, args.model.as_deref()).await?
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

/// The list of providers, at the top level or under `llm`. A missing one is created under `llm`.
fn providers<'a>(file: &'a mut Value, shown: &str) -> Result<&'a mut Vec<Value>, Failure> {
    if !file.is_object() {
        return Err(Failure::usage(format!("{shown}: expected an object")));
    }
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

fn published_as<'a>(known: &'a [Value], found: &FoundModel) -> Option<&'a str> {
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

fn provider(found: &FoundModel, name: &str, settings: &Settings) -> Value {
    let mut provider = json!({
        "name": name,
        "type": found.server.name,
        "model": found.model,
        "url": found.url,
        "publish": true,
        "visibility": if settings.public { "public" } else { "private" },
    });
    if let Some(pool) = &settings.pool {
        provider["poolName"] = json!(pool);
    }
    provider
}

async fn confirm(question: &str) -> Result<bool, Failure> {
    Ok(answer(question).await?.to_lowercase().starts_with('y'))
}

/// Reads a line on a detached thread: Ctrl-C must end the program while it reads.
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
