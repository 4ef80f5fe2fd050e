//! `status`, `provider`, `pause`, `resume` and `reload`: commands for the registrar on this machine.

use std::time::Duration;

use actors::status::{ChannelState, ChannelStatus, ChannelTransport, ProviderState, RegistrarStatus};
use serde_json::{Value, json};
use wire::row::Timestamp;

use super::{
    cells::{rows, span, text},
    hub_findings,
    table::{Table, column},
};
use crate::{
    cli::{Global, OutputFormat, PauseArgs, ProviderAction, ProviderArgs, StatusArgs},
    config::Paths,
    control::{self, Request},
    exit::{Failure, Outcome},
    output::{self, printable},
    spinner::Spinner,
};

pub(crate) async fn run(global: &Global, args: &StatusArgs) -> Outcome {
    let value = control::ask(&Paths::find(global)?, &Request::Status).await?;
    match args.output {
        Some(OutputFormat::Json) => output::document(&value, false),
        Some(OutputFormat::Yaml) => output::document(&value, true),
        Some(OutputFormat::Name) => {
            let providers = rows(&value["providers"]).iter();
            output::lines(providers.map(|provider| format!("provider/{}", text(provider, "name"))))
        }
        None | Some(OutputFormat::Wide) => {
            let status = parse(value)?;
            output::lines(summary(&status))?;
            output::lines(waiting(global, &status).await)?;
            output::line("")?;
            print_providers(&status.providers, args.output.is_some())
        }
    }
}

/// Time-out of the hub's list of LLMs.
const HUB_TIMEOUT: Duration = Duration::from_secs(2);

/// Lines about LLMs that wait for admission to another user's pool; none if the hub does not answer.
async fn waiting(global: &Global, status: &RegistrarStatus) -> Vec<String> {
    if status.channel.state != ChannelState::Connected {
        return Vec::new();
    }
    let llms = async { super::hub_client(global).ok()?.llms().await.ok() };
    let Ok(Some(llms)) = tokio::time::timeout(HUB_TIMEOUT, llms).await else { return Vec::new() };
    let names = status.providers.iter().map(|provider| provider.wire_name.as_str());
    hub_findings::waiting(names, &llms)
        .iter()
        .map(|text| format!("Waits       {}", printable(text)))
        .collect()
}

pub(crate) async fn provider(global: &Global, args: &ProviderArgs) -> Outcome {
    let paths = Paths::find(global)?;
    let provider = args.name.clone();
    match args.action {
        ProviderAction::Up => {
            let spinner = Spinner::start("waiting for the backend");
            let took = control::ask(&paths, &Request::Up { provider }).await?;
            drop(spinner);
            let seconds = took["seconds"].as_f64().unwrap_or_default();
            output::line(format!("{} is up, after {seconds:.1} s", args.name))
        }
        ProviderAction::Down => {
            control::ask(&paths, &Request::Down { provider }).await?;
            output::line(format!("{} sleeps", args.name))
        }
        ProviderAction::Status => {
            let mut status = parse(control::ask(&paths, &Request::Status).await?)?;
            status.providers.retain(|state| state.name == args.name || state.wire_name == args.name);
            if status.providers.is_empty() {
                return Err(Failure::failed(format!(
                    "no provider '{}' is published here; `virtual-llm status` lists them",
                    args.name
                )));
            }
            print_providers(&status.providers, false)
        }
    }
}

pub(crate) async fn pause(global: &Global, args: &PauseArgs) -> Outcome {
    let seconds = args.duration.as_ref().map(Duration::as_secs_f64);
    control::ask(&Paths::find(global)?, &Request::Pause { seconds }).await?;
    let text = args.duration.map_or_else(
        || "paused until `virtual-llm resume`: callers get 503 meanwhile, running tasks end".to_owned(),
        |time| {
            format!("paused for {}: callers get 503 with that time, running tasks end", span(time.as_secs()))
        },
    );
    output::line(text)
}

pub(crate) async fn resume(global: &Global) -> Outcome {
    control::ask(&Paths::find(global)?, &Request::Resume).await?;
    output::line("takes tasks again")
}

/// Runs `reload` and prints the changes.
pub(crate) async fn reload(global: &Global) -> Outcome {
    let changes = control::ask(&Paths::find(global)?, &Request::Reload).await?;
    let texts = |key: &str| -> Vec<String> {
        let list = changes[key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(|text| printable(text).into_owned()).collect()
    };
    for warning in texts("warnings") {
        output::note(format!("warning: {warning}"));
    }
    let mut is_same = true;
    for what in ["added", "changed", "removed"] {
        for name in texts(what) {
            is_same = false;
            output::line(format!("{what:<8} {name}"))?;
        }
    }
    if is_same { output::line("read again: nothing changed") } else { Ok(()) }
}

fn parse(value: Value) -> Result<RegistrarStatus, Failure> {
    serde_json::from_value(value).map_err(|_| {
        Failure::failed("the registrar here is of another version: stop it, and start it from this one; `-o json` shows its words")
    })
}

fn summary(status: &RegistrarStatus) -> Vec<String> {
    let state = match status.channel.state {
        ChannelState::Connecting => "connecting",
        ChannelState::Connected => "connected",
        ChannelState::Refused => "refused, tried again every minute",
        ChannelState::Idle => "idle: nothing to publish",
        ChannelState::Draining => "stopping",
        ChannelState::Restarting => "the hub shuts down",
    };
    let mut lines = vec![
        format!("Hub         {}", printable(&status.hub_url)),
        format!("Proxy       {}", status.proxy.as_deref().map_or("-".into(), printable)),
        format!("Channel     {state}, for {}", ago(status.channel.since)),
        format!("Transport   {}", transport(status.channel.transport.as_ref())),
        format!("Connection  {}", connection(&status.channel)),
        format!("Session     {}", status.provider_session_id.as_deref().map_or("-".into(), printable)),
        format!(
            "Heartbeat   {}",
            status.last_heartbeat_at.map_or_else(|| "-".to_owned(), |at| format!("{} ago", ago(at)))
        ),
    ];
    if let Some(error) = &status.last_error {
        lines.push(format!("Last error  {} ({} ago)", printable(&error.message), ago(error.at)));
    }
    if let Some(pause) = &status.paused {
        let until = pause.until.map_or_else(
            || "until `virtual-llm resume`".to_owned(),
            |until| format!("for {} more", left(until)),
        );
        lines.push(format!("Paused      {until}: callers get 503"));
    }
    lines
}

fn transport(transport: Option<&ChannelTransport>) -> String {
    match transport {
        None => "-".to_owned(),
        Some(ChannelTransport::Link) => "link: one WebSocket".to_owned(),
        Some(ChannelTransport::Sse(reason)) => format!("SSE and POSTs, because {}", printable(reason)),
    }
}

fn connection(channel: &ChannelStatus) -> String {
    let Some(since) = channel.open_since else { return "-".to_owned() };
    let trip = channel.round_trip_ms.map(|took| format!(", round trip {took:.1} ms"));
    format!("open for {}{}", ago(since), trip.unwrap_or_default())
}

fn print_providers(providers: &[ProviderState], is_wide: bool) -> Outcome {
    let columns = vec![
        column("NAME", |row| text(row, "name")).cut(),
        column("PUBLISHED", |row| text(row, "published")).cut().droppable(3),
        column("STATE", |row| text(row, "state")),
        column("TASKS", |row| text(row, "tasks")),
        column("QUEUED", |row| text(row, "queued")).droppable(5),
        column("DONE", |row| text(row, "done")).droppable(4),
        column("REFUSED", |row| text(row, "refused")).droppable(2),
        column("TOKENS/S", |row| text(row, "pace")).droppable(7),
        column("CRASHES", |row| text(row, "crashes")).droppable(1),
        column("MODEL", |row| text(row, "model")).cut().droppable(6),
        column("REASON", |row| text(row, "reason")).cut(),
    ];
    let rows: Vec<_> = providers.iter().map(row).collect();
    let mut table = if is_wide { Table::unlimited(columns) } else { Table::new(columns) };
    table.print(&rows)
}

fn row(provider: &ProviderState) -> Value {
    let report = provider.report.as_ref();
    let state = match report {
        _ if provider.withdrawn_until.is_some() => "withdrawn".to_owned(),
        None => "restarting".to_owned(),
        Some(report) if report.paused => "paused".to_owned(),
        Some(report) => report.status.status.to_string(),
    };
    let withdrawn =
        provider.withdrawn_until.map(|until| format!("crashed too often; back in {}", left(until)));
    json!({
        "name": provider.name,
        "published": provider.wire_name,
        "state": state,
        "tasks": report.map(|report| format!("{}/{}", report.status.in_flight, report.status.max_concurrency)),
        "queued": report.map(|report| report.status.queued),
        "done": report.map(|report| report.tasks_done),
        "refused": report.map(|report| report.tasks_refused),
        "pace": report.and_then(|report| report.tokens_per_second).map(|pace| format!("{pace:.1}")),
        "crashes": provider.crashes,
        "model": provider.model,
        "reason": withdrawn.or_else(|| report?.reason.clone()),
    })
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

fn ago(moment: Timestamp) -> String {
    span(now().millis_since(moment) / 1_000)
}

fn left(moment: Timestamp) -> String {
    span(moment.millis_since(now()) / 1_000)
}
