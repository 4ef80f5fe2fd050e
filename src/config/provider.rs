//! One provider.

use actors::{
    ProviderConfig, Secret,
    options::{Availability, BackendConfig, HttpBackend, MockConfig, OnAbort},
};
use serde_json::Value;
use wire::{
    WireName,
    row::{Tier, Visibility},
};

use super::{
    Environment, keys,
    near_miss::near_miss,
    recipe,
    report::{Finding, Report},
    table::Table,
    url,
};

/// What a provider's checks depend on.
pub(super) struct Context<'a> {
    /// Appended to the name, with its dash.
    pub(super) suffix: &'a str,
    /// The variables that a recipe must not see.
    pub(super) scrubbed: &'a [String],
    pub(super) environment: &'a Environment<'a>,
    /// Why a provider is skipped.
    pub(super) skipped: &'a mut Vec<Finding>,
}

/// What a type stands for.
enum Shape {
    OpenAi { usual_url: Option<&'static str> },
    Anthropic,
    Mock,
}

/// Checks one provider. `None` where it is not published, is skipped with a warning, or has an error.
pub(super) fn check(
    value: &Value,
    path: String,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Option<ProviderConfig> {
    let table = Table::of(value, path, keys::PROVIDER, report)?;
    if !table.flag("publish", report)? {
        return None;
    }
    let errors_before = report.errors.len();
    let name = table.required_text("name", report);
    let wire_name = name.and_then(|name| wire_name(&table, name, context.suffix, report));
    let (hub_type, shape) = shape(&table, context.skipped, report)?;
    let backend = backend(&table, &shape, context, report);
    let model = match (&shape, table.get("model")) {
        (Shape::Mock, None) => Some("mock"),
        _ => table.required_text("model", report),
    };
    let wake = recipe::wake(&table, context.scrubbed, report);
    let sleep = recipe::sleep(&table, context.scrubbed, report);
    if sleep.is_some() && table.get("wake").is_none() {
        report.error(table.path_of("sleep"), "needs a wake recipe beside it: who sleeps must be woken");
    }
    let config = ProviderConfig {
        name: name.unwrap_or_default().to_owned(),
        wire_name: wire_name?,
        hub_type: hub_type.to_owned(),
        model: model.unwrap_or_default().to_owned(),
        backend: backend?,
        tier: table.word("tier", &[("fast", Tier::Fast), ("heavy", Tier::Heavy)], report),
        description: table.any_text("description", report).map(str::to_owned),
        pool_name: table.text("poolName", report).map(str::to_owned),
        visibility: visibility(&table, report),
        max_concurrency: table.count("maxConcurrency", report).unwrap_or_default(),
        max_queue: table.count("maxQueue", report).unwrap_or_default(),
        timeout: table.seconds("timeoutSeconds", report).unwrap_or_default(),
        allow_model_override: table.flag("allowModelOverride", report).unwrap_or_default(),
        allow_remote_urls: table.flag("allowRemoteUrls", report).unwrap_or_default(),
        on_abort: table
            .word("onAbort", &[("close", OnAbort::Close), ("drain", OnAbort::Drain)], report)
            .unwrap_or_default(),
        wake,
        sleep,
        availability: availability(&table, report),
    };
    (report.errors.len() == errors_before).then_some(config)
}

/// The variables that hold secrets: whatever a recipe runs does not get them.
pub(super) fn secret_variables(providers: &[&Value]) -> Vec<String> {
    let hub_tokens = ["MCPD_TOKEN", "VIRTUAL_LLM_ADMIN_TOKEN"].map(str::to_owned);
    let keys = providers.iter().filter_map(|provider| provider.get("apiKeyEnv")?.as_str()).map(str::to_owned);
    let mut all: Vec<_> = hub_tokens.into_iter().chain(keys).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// `publishName`, else the name with the suffix.
pub(super) fn wire_name(
    table: &Table<'_>,
    name: &str,
    suffix: &str,
    report: &mut Report,
) -> Option<WireName> {
    let (key, wanted) = match table.get("publishName") {
        Some(_) => ("publishName", table.text("publishName", report)?.to_owned()),
        None => ("name", format!("{name}{suffix}")),
    };
    match WireName::parse(wanted.as_str()) {
        Ok(name) => Some(name),
        Err(why) => {
            let shown: String = wanted.chars().take(120).collect();
            let hint = if key == "name" { "; a publishName can differ from the name" } else { "" };
            report.error(table.path_of(key), format!("'{shown}' cannot be published: {why}{hint}"));
            None
        }
    }
}

/// Who may see it.
pub(super) fn visibility(table: &Table<'_>, report: &mut Report) -> Visibility {
    let words = [("private", Visibility::Private), ("public", Visibility::Public)];
    table.word("visibility", &words, report).unwrap_or_default()
}

/// As much of a word as tells which one it was.
fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// "; did you mean 'ollama'?", where a known type is near.
fn meant(table: &Table<'_>, unknown: &str) -> String {
    near_miss(unknown, table.examples("type"))
        .map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"))
}

/// What the hub is told, and what it stands for. `None` where the provider is skipped or has no type.
fn shape(
    table: &Table<'_>,
    skipped: &mut Vec<Finding>,
    report: &mut Report,
) -> Option<(&'static str, Shape)> {
    Some(match table.required_text("type", report)? {
        "openai" => ("openai", Shape::OpenAi { usual_url: None }),
        "vllm" => ("vllm", Shape::OpenAi { usual_url: Some("http://127.0.0.1:8000/v1") }),
        "ollama" => ("ollama", Shape::OpenAi { usual_url: Some("http://127.0.0.1:11434/v1") }),
        "llamacpp" => ("openai", Shape::OpenAi { usual_url: Some("http://127.0.0.1:8080/v1") }),
        "lmstudio" => ("openai", Shape::OpenAi { usual_url: Some("http://127.0.0.1:1234/v1") }),
        "anthropic" => ("anthropic", Shape::Anthropic),
        "mock" => ("openai", Shape::Mock),
        unknown if table.get("url").is_some() => {
            let (unknown, meant) = (shown(unknown), meant(table, unknown));
            report.warn(
                table.path_of("type"),
                format!("unknown type '{unknown}'; treated as \"openai\" because it has a url{meant}"),
            );
            ("openai", Shape::OpenAi { usual_url: None })
        }
        unknown => {
            let (unknown, meant) = (shown(unknown), meant(table, unknown));
            let text = format!("unknown type '{unknown}' and no url; this provider is skipped{meant}");
            report.warn(table.path_of("type"), text.clone());
            skipped.push(Finding { key: table.path_of("type"), text });
            return None;
        }
    })
}

fn backend(
    table: &Table<'_>,
    shape: &Shape,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<BackendConfig> {
    Some(match shape {
        Shape::OpenAi { usual_url } => {
            BackendConfig::OpenAi(http_backend(table, *usual_url, context, report)?)
        }
        Shape::Anthropic => BackendConfig::Anthropic(http_backend(
            table,
            Some("https://api.anthropic.com/v1"),
            context,
            report,
        )?),
        Shape::Mock => BackendConfig::Mock(mock(table, report)),
    })
}

fn http_backend(
    table: &Table<'_>,
    usual_url: Option<&str>,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<HttpBackend> {
    let api_key = api_key(table, context, report);
    let url = match usual_url {
        Some(usual) if table.get("url").is_none() => usual.to_owned(),
        _ => match url::api_base(table.required_text("url", report)?) {
            Ok(url) => url,
            Err(why) => {
                report.error(table.path_of("url"), why);
                return None;
            }
        },
    };
    Some(HttpBackend { url: Secret::new(url), api_key })
}

/// The variable rules over the file; one that is not set is only a warning, since many local servers want no key.
fn api_key(table: &Table<'_>, context: &Context<'_>, report: &mut Report) -> Option<Secret> {
    let written = table.text("apiKey", report);
    let from_variable = table.text("apiKeyEnv", report).and_then(|name| {
        let value = (context.environment.variable)(name);
        if value.is_none() && written.is_none() {
            report.warn(
                table.path_of("apiKeyEnv"),
                format!("the variable {name} is not set; calls go without a key"),
            );
        }
        value
    });
    let key = from_variable.or_else(|| written.map(str::to_owned))?;
    let key = key.trim();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let which = if table.get("apiKeyEnv").is_some() { "apiKeyEnv" } else { "apiKey" };
        report.error(table.path_of(which), "expected a key of visible ASCII characters");
        return None;
    }
    Some(Secret::new(key.to_owned()))
}

fn mock(table: &Table<'_>, report: &mut Report) -> MockConfig {
    let every = |key: &str, report: &mut Report| table.count(key, report).map(|n| n as u64);
    MockConfig {
        tokens: table.count("tokens", report),
        tokens_per_second: table.rate("tokensPerSecond", report),
        fail_every: every("failEvery", report),
        panic_every: every("panicEvery", report),
    }
}

fn availability(table: &Table<'_>, report: &mut Report) -> Option<Availability> {
    let table = table.table("availability", keys::AVAILABILITY, report)?;
    let address = recipe::address(&table, report);
    // Not `required_text`: the empty pointer means the whole answer.
    let pointer = if table.get("jsonPointer").is_some() {
        table.any_text("jsonPointer", report)
    } else {
        let expected = "is missing; expected a JSON pointer such as \"/is_sleeping\"";
        report.error(table.path_of("jsonPointer"), expected);
        None
    };
    if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        report.error(table.path_of("jsonPointer"), "expected a JSON pointer: it begins with '/'");
    }
    let equals = table.get("equals");
    table.require("equals", "the value that means available", report);
    Some(Availability { url: address?, json_pointer: pointer?.to_owned(), equals: equals?.clone() })
}
