//! `check`: checks the configuration, the hub and the backends.

use std::path::{Path, PathBuf};

use actors::{
    ProviderConfig,
    options::{Action, BackendConfig},
    way::{self, Finding, Level},
};
use own_files::{Doubt, OwnFile};
use serde_json::Value;

use super::hub_findings;
use crate::{
    cli::Global,
    client::HubClient,
    config::{self, Paths, Published, Report},
    discover::{self, BackendState},
    exit::{Code, Failure, Outcome},
    output,
};

/// SGR codes of colours.
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// Prints the results of checks, one a line.
#[derive(Default)]
struct Printer {
    has_error: bool,
}

impl Printer {
    fn print(colour: u8, word: &str, text: &str) -> Outcome {
        // Another author's configuration must not forge a line of the output.
        let text = output::printable(text);
        if output::has_colour() {
            output::line(format!("\u{1b}[{colour}m{word}\u{1b}[0m  {text}"))
        } else {
            output::line(format!("{word}  {text}"))
        }
    }

    fn ok(text: &str) -> Outcome {
        Self::print(GREEN, "ok   ", text)
    }

    fn warn(text: &str) -> Outcome {
        Self::print(YELLOW, "warn ", text)
    }

    fn error(&mut self, text: &str) -> Outcome {
        self.has_error = true;
        Self::print(RED, "error", text)
    }

    /// Prints a finding about the way to the hub, with its advice below it.
    fn finding(&mut self, finding: &Finding) -> Outcome {
        match finding.level {
            Level::Ok => Self::ok(&finding.text)?,
            Level::Warning => Self::warn(&finding.text)?,
            Level::Error => self.error(&finding.text)?,
        }
        finding
            .advice
            .iter()
            .try_for_each(|advice| output::line(format!("       {}", output::printable(advice))))
    }

    /// Prints the findings about a file.
    fn report(&mut self, path: &Path, report: &Report) -> Outcome {
        let shown = path.display();
        for error in &report.errors {
            self.error(&format!("{shown}: {error}"))?;
        }
        report.warnings.iter().try_for_each(|warning| Self::warn(&format!("{shown}: {warning}")))
    }
}

pub(crate) async fn run(global: &Global) -> Outcome {
    let paths = Paths::find(global)?;
    let mut printer = Printer::default();
    let published = configuration(&paths.config, &mut printer)?;
    let llms = hub(global, &paths, &mut printer).await?;
    let report = hub_findings::unresolved_agents(&published.unresolved, llms.as_ref());
    printer.report(&paths.config, &report)?;
    let names = published.providers.iter().map(|provider| provider.wire_name.as_str());
    for text in hub_findings::waiting(names, llms.as_ref().unwrap_or(&Value::Null)) {
        Printer::warn(&output::printable(&text))?;
    }
    for provider in &published.providers {
        backend(provider, &mut printer).await?;
        recipes(provider, &mut printer)?;
    }
    if printer.has_error { Err(Failure::silent(Code::Failed)) } else { Ok(()) }
}

fn configuration(path: &Path, printer: &mut Printer) -> Result<Published, Failure> {
    let shown = path.display();
    if matches!(path.try_exists(), Ok(false)) {
        printer.error(&format!("{shown}: there is no such file; `virtual-llm add` writes it"))?;
        return Ok(Published::default());
    }
    let (published, report) = match config::inspect(path) {
        Ok(read) => read,
        Err(failure) => {
            printer.error(failure.text().unwrap_or_default())?;
            return Ok(Published::default());
        }
    };
    printer.report(path, &report)?;
    if report.errors.is_empty() {
        match published.providers.len() {
            0 if !published.skipped.is_empty() => {
                printer.error(&format!("{shown}: no provider that is to be published can be used"))?;
            }
            0 => Printer::warn(&format!(
                "{shown}: nothing to publish: no provider that can be used has \"publish\": true; `virtual-llm add` adds one"
            ))?,
            n => Printer::ok(&format!("{shown}: {n} to publish"))?,
        }
    }
    Ok(published)
}

/// Checks the credentials and the hub. Returns the hub's list of LLMs.
async fn hub(global: &Global, paths: &Paths, printer: &mut Printer) -> Result<Option<Value>, Failure> {
    let file = paths.credentials.display();
    let (warnings, credentials) = config::inspect_credentials(global, paths);
    for warning in &warnings {
        Printer::warn(&format!("{file}: {warning}"))?;
    }
    let credentials = match credentials {
        Ok(credentials) => credentials,
        Err(failure) => return printer.error(failure.text().unwrap_or_default()).map(|()| None),
    };
    if credentials.file.is_some() && warnings.is_empty() {
        Printer::ok(&format!("{file}: readable by its owner only"))?;
    }
    let findings = way::connection(&credentials).await;
    findings.iter().try_for_each(|finding| printer.finding(finding))?;
    if findings.iter().any(|finding| finding.level == Level::Error) {
        return Ok(None);
    }
    let client = HubClient::new(credentials.clone());
    let client = match client {
        Ok(client) => client,
        Err(failure) => {
            return printer.error(failure.text().unwrap_or_default()).map(|()| None);
        }
    };
    match client.llms().await {
        Ok(llms) => {
            Printer::ok(&format!("{}: the hub answers and accepts the token", client.url()))?;
            // A classic hub has no such path.
            if let Ok(Some(caller)) = client.find("/api/v1/whoami").await {
                Printer::ok(&identity(&caller))?;
            }
            let findings = way::web_socket(&credentials).await;
            findings.iter().try_for_each(|finding| printer.finding(finding))?;
            Ok(Some(llms))
        }
        Err(error) => printer.error(&error.to_string()).map(|()| None),
    }
}

/// The user of the token, and the version of the hub: from `caller`, the answer of `whoami`.
fn identity(caller: &Value) -> String {
    let text = |key: &str| caller[key].as_str().unwrap_or("?");
    let version = caller["version"].as_str().map(|version| format!("; the hub is version {version}"));
    format!("the token is of {} ({}){}", text("user"), text("role"), version.unwrap_or_default())
}

async fn backend(provider: &ProviderConfig, printer: &mut Printer) -> Outcome {
    let (name, model, url) = (&provider.name, &provider.model, url(provider));
    if let Some(finding) = way::backend_proxy(provider, url).await {
        printer.finding(&finding)?;
        if finding.level == Level::Error {
            return Ok(());
        }
    }
    let state = discover::backend_state(provider).await?;
    let is_there = !matches!(state, BackendState::Asleep(_) | BackendState::Unreachable(_));
    let known = if is_there { discover::abilities(provider).await? } else { provider.abilities }.to_string();
    let known = if known.is_empty() { known } else { format!(": {known}") };
    match state {
        BackendState::BuiltIn => Printer::ok(&format!("{name}: built in{known}")),
        BackendState::Unknown => Printer::ok(&format!("{name}: not asked: a key would be spent")),
        BackendState::HasModel => {
            Printer::ok(&format!("{name}: the backend at {url} answers and has {model}{known}"))
        }
        BackendState::AnyName => Printer::ok(&format!(
            "{name}: the backend at {url} answers and serves its one model by any name{known}"
        )),
        BackendState::LacksModel(models) => {
            let models: Vec<_> = models.iter().map(|model| output::printable(model)).collect();
            let models = models.join(", ");
            printer.error(&format!("{name}: the backend at {url} has no model '{model}'; it has {models}"))
        }
        BackendState::Unlisted(why) => Printer::warn(&format!(
            "{name}: the backend at {url} answers, but does not list its models: {why}"
        )),
        BackendState::Asleep(why) => {
            Printer::warn(&format!("{name}: the backend at {url} sleeps or is down: {why}"))
        }
        BackendState::Unreachable(why) => printer
            .error(&format!("{name}: cannot ask the backend at {url} for its models: {why}; is it running?")),
    }
}

fn url(provider: &ProviderConfig) -> &str {
    match &provider.backend {
        BackendConfig::OpenAi(http) | BackendConfig::Anthropic(http) => http.url.reveal(),
        BackendConfig::Mock(_) | BackendConfig::Custom(_) => "",
    }
}

/// The actions of a provider's recipes, by name.
fn actions(provider: &ProviderConfig) -> impl Iterator<Item = (&'static str, &Action)> {
    let wake = provider.wake.as_ref().map(|recipe| ("wake", &recipe.action));
    let sleep = provider.sleep.as_ref().map(|recipe| ("sleep", &recipe.action));
    wake.into_iter().chain(sleep)
}

fn recipes(provider: &ProviderConfig, printer: &mut Printer) -> Outcome {
    let name = &provider.name;
    for (recipe, action) in actions(provider) {
        let doubt = if let Action::Command { command, .. } = action {
            let Some(program) = program(command) else {
                printer.error(&format!(
                    "{name}: the {recipe} recipe's command '{command}' is not in PATH, or cannot be run"
                ))?;
                continue;
            };
            program_doubt(&program)
        } else {
            None
        };
        match doubt {
            Some(doubt) => Printer::warn(&format!("{name}: the {recipe} recipe's command: {doubt}"))?,
            None => Printer::ok(&format!("{name}: the {recipe} recipe is well formed"))?,
        }
    }
    Ok(())
}

/// Warnings about programs of recipes that other users could have written: they run with the rights of this user.
pub(super) fn doubtful_programs(providers: &[ProviderConfig]) -> Vec<String> {
    let warning = |(name, action): (&String, &Action)| {
        let Action::Command { command, .. } = action else { return None };
        let doubt = program_doubt(&program(command)?)?;
        Some(format!("{name}: a recipe's command: {doubt}"))
    };
    let all =
        providers.iter().flat_map(|provider| actions(provider).map(|(_, action)| (&provider.name, action)));
    all.filter_map(warning).collect()
}

/// The doubt about a program; `None` if the program is executable but not readable.
fn program_doubt(program: &Path) -> Option<Doubt> {
    OwnFile::open(program).ok()?.doubt().cloned()
}

/// Finds the program of a command, in `PATH` unless it is a path.
fn program(command: &str) -> Option<PathBuf> {
    let can_run =
        |path: &Path| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file();
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| can_run(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(|path| can_run(path))
}
