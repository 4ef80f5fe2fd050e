//! `check`: what is right and what is wrong, line by line.

use std::path::{Path, PathBuf};

use actors::{
    ProviderConfig,
    options::{Action, BackendConfig, HttpBackend},
};

use own_files::{Doubt, OwnFile};
use serde_json::Value;

use super::agents;
use crate::{
    cli::Global,
    client::{self, HubClient},
    config::{self, Places, Published},
    discover::{self, Unlisted},
    exit::{Code, Failure, Outcome},
    output,
};

/// The SGR numbers of the words' colours.
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

fn said(colour: u8, word: &str, text: &str) -> Outcome {
    if output::has_colour() {
        output::line(format!("\u{1b}[{colour}m{word}\u{1b}[0m  {text}"))
    } else {
        output::line(format!("{word}  {text}"))
    }
}

/// Whether there was an error.
#[derive(Default)]
struct Findings {
    has_error: bool,
}

impl Findings {
    fn good(text: &str) -> Outcome {
        said(GREEN, "ok   ", text)
    }

    fn doubtful(text: &str) -> Outcome {
        said(YELLOW, "warn ", text)
    }

    fn bad(&mut self, text: &str) -> Outcome {
        self.has_error = true;
        said(RED, "error", text)
    }
}

/// Runs it.
pub(crate) async fn run(global: &Global) -> Outcome {
    let places = Places::find(global)?;
    let mut findings = Findings::default();
    let published = configuration(&places, &mut findings)?;
    let llms = hub(global, &places, &mut findings).await?;
    agents(&places, &published, llms.as_ref(), &mut findings)?;
    let names = published.providers.iter().map(|provider| provider.wire_name.as_str());
    for text in agents::waiting(names, llms.as_ref().unwrap_or(&Value::Null)) {
        Findings::doubtful(&output::printable(&text))?;
    }
    for provider in &published.providers {
        backend(provider, &mut findings).await?;
        recipes(provider, &mut findings)?;
    }
    if findings.has_error { Err(Failure::silent(Code::Failed)) } else { Ok(()) }
}

fn configuration(places: &Places, findings: &mut Findings) -> Result<Published, Failure> {
    let path = &places.config;
    let shown = path.display();
    if matches!(path.try_exists(), Ok(false)) {
        findings.bad(&format!("{shown}: there is no such file; `virtual-llm add` writes it"))?;
        return Ok(Published::default());
    }
    let (published, report) = match config::inspect(path) {
        Ok(read) => read,
        Err(failure) => {
            findings.bad(failure.text().unwrap_or_default())?;
            return Ok(Published::default());
        }
    };
    for error in &report.errors {
        findings.bad(&format!("{shown}: {error}"))?;
    }
    for warning in &report.warnings {
        Findings::doubtful(&format!("{shown}: {warning}"))?;
    }
    if report.errors.is_empty() {
        match published.providers.len() {
            0 if !published.skipped.is_empty() => {
                findings.bad(&format!("{shown}: no provider that is to be published can be used"))?;
            }
            0 => Findings::doubtful(&format!(
                "{shown}: nothing to publish: no provider that can be used has \"publish\": true; `virtual-llm add` adds one"
            ))?,
            n => Findings::good(&format!("{shown}: {n} to publish"))?,
        }
    }
    Ok(published)
}

/// Whether each agent has an LLM.
fn agents(places: &Places, published: &Published, llms: Option<&Value>, findings: &mut Findings) -> Outcome {
    let shown = places.config.display();
    match llms {
        Some(llms) => {
            for finding in agents::without_llm(&published.elsewhere, llms) {
                findings.bad(&format!("{shown}: {finding}"))?;
            }
            agents::visible_through(&published.elsewhere, llms)
                .iter()
                .try_for_each(|finding| Findings::doubtful(&format!("{shown}: {finding}")))
        }
        None => published
            .elsewhere
            .iter()
            .try_for_each(|agent| Findings::doubtful(&format!("{shown}: {}", agents::unchecked(agent)))),
    }
}

/// The hub's list of LLMs, where it can be had.
async fn hub(global: &Global, places: &Places, findings: &mut Findings) -> Result<Option<Value>, Failure> {
    let file = places.credentials.display();
    let (warnings, hub) = config::inspect_hub(global, places);
    for warning in &warnings {
        Findings::doubtful(&format!("{file}: {warning}"))?;
    }
    let client = hub.and_then(|hub| {
        if hub.file.is_some() && warnings.is_empty() {
            Findings::good(&format!("{file}: readable by its owner only"))?;
        }
        HubClient::new(hub, global.ca_file.as_deref())
    });
    let client = match client {
        Ok(client) => client,
        Err(failure) => {
            return findings.bad(failure.text().unwrap_or_default()).map(|()| None);
        }
    };
    match client.llms().await {
        Ok(llms) => {
            Findings::good(&format!("{}: the hub answers and accepts the token", client.url()))?;
            Ok(Some(llms))
        }
        Err(error) => findings.bad(&error.to_string()).map(|()| None),
    }
}

async fn backend(provider: &ProviderConfig, findings: &mut Findings) -> Outcome {
    let name = &provider.name;
    let http: &HttpBackend = match &provider.backend {
        BackendConfig::OpenAi(http) => http,
        BackendConfig::Mock(_) => return Findings::good(&format!("{name}: built in")),
        _ => return Findings::good(&format!("{name}: not asked: a key would be spent")),
    };
    let url = http.url.reveal();
    let client = client::for_backend(url)?;
    match discover::models(&client, url, http.api_key.as_ref()).await {
        Ok(models) if models.is_empty() || models.contains(&provider.model) => {
            Findings::good(&format!("{name}: the backend at {url} answers and has {}", provider.model))
        }
        Ok(models) => findings.bad(&format!(
            "{name}: the backend at {url} has no model '{}'; it has {}",
            provider.model,
            models.iter().map(|model| output::printable(model)).collect::<Vec<_>>().join(", ")
        )),
        Err(Unlisted { answers: true, why }) => Findings::doubtful(&format!(
            "{name}: the backend at {url} answers, but does not list its models: {why}"
        )),
        Err(Unlisted { why, .. }) if provider.wake.is_some() => {
            Findings::doubtful(&format!("{name}: the backend at {url} sleeps or is down: {why}"))
        }
        Err(Unlisted { why, .. }) => findings
            .bad(&format!("{name}: cannot ask the backend at {url} for its models: {why}; is it running?")),
    }
}

fn recipes(provider: &ProviderConfig, findings: &mut Findings) -> Outcome {
    let wake = provider.wake.as_ref().map(|recipe| ("wake", &recipe.action));
    let sleep = provider.sleep.as_ref().map(|recipe| ("sleep", &recipe.action));
    for (what, action) in [wake, sleep].into_iter().flatten() {
        let name = &provider.name;
        let mut found = None;
        if let Action::Command { command, .. } = action {
            found = program(command);
            if found.is_none() {
                findings.bad(&format!(
                    "{name}: the {what} recipe's command '{command}' is not in PATH, or cannot be run"
                ))?;
                continue;
            }
        }
        match found.and_then(|program| doubt_of_program(&program)) {
            Some(doubt) => Findings::doubtful(&format!("{name}: the {what} recipe's command: {doubt}"))?,
            None => Findings::good(&format!("{name}: the {what} recipe is well formed"))?,
        }
    }
    Ok(())
}

/// What of the recipes' programs others could have written: they run with our rights.
pub(super) fn doubtful_programs(providers: &[ProviderConfig]) -> Vec<String> {
    let mut found = Vec::new();
    for provider in providers {
        let actions =
            [provider.wake.as_ref().map(|it| &it.action), provider.sleep.as_ref().map(|it| &it.action)];
        for action in actions.into_iter().flatten() {
            if let Action::Command { command, .. } = action
                && let Some(doubt) = program(command).and_then(|program| doubt_of_program(&program))
            {
                found.push(format!("{}: a recipe's command: {doubt}", provider.name));
            }
        }
    }
    found
}

/// One that only may be run cannot be looked at so.
fn doubt_of_program(program: &Path) -> Option<Doubt> {
    OwnFile::open(program).ok()?.doubt().cloned()
}

/// What the system would find and run.
fn program(command: &str) -> Option<PathBuf> {
    let can_run =
        |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file();
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| can_run(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(|path| can_run(path))
}
