//! The `providers` of the configuration.

use actors::{
    ProviderConfig, Secret,
    http::{Proxy, proxy::is_remote},
    options::{Availability, BackendConfig, HttpBackend, MockConfig, OnAbort},
};
use serde_json::Value;
use wire::{
    Abilities, Capabilities, WireName,
    row::{Tier, Visibility},
};

use super::{
    Environment, keys,
    near_miss::near_miss,
    reader::ObjectReader,
    recipe,
    report::{Finding, Report},
    server_types::{self, Api, ServerType},
    url,
};

/// Inputs of `read` that all providers share.
pub(super) struct Context<'a> {
    /// Appended to names, with its dash.
    pub(super) suffix: &'a str,
    /// Environment variables that recipes do not get.
    pub(super) secret_variables: &'a [String],
    pub(super) environment: &'a Environment<'a>,
    /// Receives the reason why a published provider is skipped.
    pub(super) skipped: &'a mut Vec<Finding>,
}

/// Reads one provider. `None` if it is not published, is skipped with a warning, or has an error.
pub(super) fn read(
    value: &Value,
    path: String,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Option<ProviderConfig> {
    let object = ObjectReader::new(value, path, keys::PROVIDER, report)?;
    if !object.flag("publish", report)? {
        return None;
    }
    let errors_before = report.errors.len();
    let name = object.required_text("name", report);
    let wire_name = name.and_then(|name| wire_name(&object, name, context.suffix, report));
    let server = server_type(&object, context.skipped, report)?;
    let backend = match server.api {
        Api::OpenAi => http_backend(&object, server, context, report).map(BackendConfig::OpenAi),
        Api::Anthropic => http_backend(&object, server, context, report).map(BackendConfig::Anthropic),
        Api::Mock => Some(BackendConfig::Mock(mock(&object, report))),
    };
    let model = match (server.api, object.get("model")) {
        (Api::Mock, None) => Some("mock"),
        _ => object.required_text("model", report),
    };
    let proxy = backend.as_ref().and_then(|backend| proxy(&object, backend, report));
    let wake = recipe::wake(&object, context.secret_variables, report);
    let sleep = recipe::sleep(&object, context.secret_variables, report);
    if sleep.is_some() && object.get("wake").is_none() {
        report.error(object.path_of("sleep"), "needs a wake recipe beside it: who sleeps must be woken");
    }
    let config = ProviderConfig {
        name: name.unwrap_or_default().to_owned(),
        wire_name: wire_name?,
        hub_type: server.hub_type.to_owned(),
        model: model.unwrap_or_default().to_owned(),
        backend: backend?,
        proxy,
        tier: object.word("tier", &[("fast", Tier::Fast), ("heavy", Tier::Heavy)], report),
        description: object.any_text("description", report).map(str::to_owned),
        pool_name: object.text("poolName", report).map(str::to_owned),
        visibility: visibility(&object, report),
        max_concurrency: object.count("maxConcurrency", report).unwrap_or_default(),
        max_queue: object.count("maxQueue", report).unwrap_or_default(),
        timeout: object.seconds("timeoutSeconds", report).unwrap_or_default(),
        allow_model_override: object.flag("allowModelOverride", report).unwrap_or_default(),
        allow_remote_urls: object.flag("allowRemoteUrls", report).unwrap_or_default(),
        keep_attribution: object.flag("keepAttribution", report).unwrap_or_default(),
        on_abort: object
            .word("onAbort", &[("close", OnAbort::Close), ("drain", OnAbort::Drain)], report)
            .unwrap_or_default(),
        wake,
        sleep,
        availability: availability(&object, report),
        server: server.kind,
        abilities: abilities(&object, report),
    };
    (report.errors.len() == errors_before).then_some(config)
}

/// Environment variables that hold secrets: tokens of hubs, and the keys of all providers.
pub(super) fn secret_variables(providers: &[&Value]) -> Vec<String> {
    let hub_tokens = ["MCPD_TOKEN", "VIRTUAL_LLM_ADMIN_TOKEN"].map(str::to_owned);
    let keys = providers.iter().filter_map(|provider| provider.get("apiKeyEnv")?.as_str()).map(str::to_owned);
    let mut all: Vec<_> = hub_tokens.into_iter().chain(keys).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The name at the hub: `publishName`, else the name with the suffix.
pub(super) fn wire_name(
    object: &ObjectReader<'_>,
    name: &str,
    suffix: &str,
    report: &mut Report,
) -> Option<WireName> {
    let (key, wanted, hint) = match object.get("publishName") {
        Some(_) => ("publishName", object.text("publishName", report)?.to_owned(), ""),
        None => ("name", format!("{name}{suffix}"), "; a publishName can differ from the name"),
    };
    let parsed = WireName::parse(wanted.as_str());
    if let Err(why) = &parsed {
        let shown: String = wanted.chars().take(120).collect();
        report.error(object.path_of(key), format!("'{shown}' cannot be published: {why}{hint}"));
    }
    parsed.ok()
}

pub(super) fn visibility(object: &ObjectReader<'_>, report: &mut Report) -> Visibility {
    let words = [("private", Visibility::Private), ("public", Visibility::Public)];
    object.word("visibility", &words, report).unwrap_or_default()
}

/// The kind of server. `None` if the provider is skipped or has no type.
fn server_type(
    object: &ObjectReader<'_>,
    skipped: &mut Vec<Finding>,
    report: &mut Report,
) -> Option<ServerType> {
    let name = object.required_text("type", report)?;
    if let Some(server) = server_types::named(name) {
        return Some(server);
    }
    let suggestion = near_miss(name, &server_types::names())
        .map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"));
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    let key = object.path_of("type");
    if object.get("url").is_some() {
        report.warn(
            key,
            format!("unknown type '{shown}'; treated as \"openai\" because it has a url{suggestion}"),
        );
        return Some(server_types::OPENAI);
    }
    let text = format!("unknown type '{shown}' and no url; this provider is skipped{suggestion}");
    report.warn(key.clone(), text.clone());
    skipped.push(Finding { key, text });
    None
}

fn http_backend(
    object: &ObjectReader<'_>,
    server: ServerType,
    context: &Context<'_>,
    report: &mut Report,
) -> Option<HttpBackend> {
    let api_key = api_key(object, context, report);
    let url = match server.default_url {
        Some(default) if object.get("url").is_none() => default.to_owned(),
        _ => url::api_base(object.required_text("url", report)?)
            .map_err(|why| report.error(object.path_of("url"), why))
            .ok()?,
    };
    Some(HttpBackend { url: Secret::new(url), api_key })
}

/// The key: `apiKeyEnv` rules over `apiKey`. An unset variable is only a warning, since many local servers need no key.
fn api_key(object: &ObjectReader<'_>, context: &Context<'_>, report: &mut Report) -> Option<Secret> {
    let written = object.text("apiKey", report);
    let from_variable = object.text("apiKeyEnv", report).and_then(|name| {
        let value = (context.environment.variable)(name);
        if value.is_none() && written.is_none() {
            report.warn(
                object.path_of("apiKeyEnv"),
                format!("the variable {name} is not set; calls go without a key"),
            );
        }
        value
    });
    let key = from_variable.or_else(|| written.map(str::to_owned))?;
    let key = key.trim();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let source = if object.get("apiKeyEnv").is_some() { "apiKeyEnv" } else { "apiKey" };
        report.error(object.path_of(source), "expected a key of visible ASCII characters");
        return None;
    }
    Some(Secret::new(key.to_owned()))
}

/// The proxy on the way to `backend`. One on this machine is called directly, as the hub is.
fn proxy(object: &ObjectReader<'_>, backend: &BackendConfig, report: &mut Report) -> Option<Proxy> {
    let text = object.text("proxy", report)?;
    let (BackendConfig::OpenAi(http) | BackendConfig::Anthropic(http)) = backend else { return None };
    let key = object.path_of("proxy");
    // The error does not quote the text, which may contain a password.
    let proxy = Proxy::parse(text, &key).map_err(|error| report.error(key.clone(), error.reason())).ok()?;
    if !is_remote(http.url.reveal()) {
        report.warn(key, "not used: a backend on this machine is called directly");
        return None;
    }
    Some(proxy)
}

fn mock(object: &ObjectReader<'_>, report: &mut Report) -> MockConfig {
    let every = |key: &str, report: &mut Report| object.count(key, report).map(|n| n as u64);
    MockConfig {
        tokens: object.count("tokens", report),
        tokens_per_second: object.rate("tokensPerSecond", report),
        fail_every: every("failEvery", report),
        panic_every: every("panicEvery", report),
    }
}

/// What the owner says that the model can do.
fn abilities(object: &ObjectReader<'_>, report: &mut Report) -> Abilities {
    let capabilities = object.reader("capabilities", keys::CAPABILITIES, report).map(|known| Capabilities {
        tools: known.flag("tools", report),
        vision: known.flag("vision", report),
        reasoning: known.flag("reasoning", report),
        embeddings: known.flag("embeddings", report),
    });
    Abilities {
        context_length: object.tokens("contextLength", report),
        max_output_tokens: object.tokens("maxOutputTokens", report),
        capabilities: capabilities.unwrap_or_default(),
    }
}

fn availability(object: &ObjectReader<'_>, report: &mut Report) -> Option<Availability> {
    let object = object.reader("availability", keys::AVAILABILITY, report)?;
    let url = recipe::url(&object, report);
    // The empty pointer, which means the whole answer, is valid: `required_text` would refuse it.
    object.require("jsonPointer", "a JSON pointer such as \"/is_sleeping\"", report);
    let pointer = object.any_text("jsonPointer", report);
    if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        report.error(object.path_of("jsonPointer"), "expected a JSON pointer: it begins with '/'");
    }
    let equals = object.get("equals");
    object.require("equals", "the value that means available", report);
    Some(Availability { url: url?, json_pointer: pointer?.to_owned(), equals: equals?.clone() })
}
