//! The table of configuration keys: types and defaults for the reader, suggestions for misspelt keys, the JSON schema and
//! the README's table. Rules between keys are in `provider.rs`, `recipe.rs` and `agent.rs` and, for editors, in `schema.rs`.

use std::time::Duration;

use actors::ProviderConfig;
pub(super) use wire::abilities::MAX_TOKENS;

/// A key of a JSON object.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) value: ValueType,
    /// Description in Markdown.
    pub(super) about: &'static str,
}

/// Type and default of a key's value.
pub(super) enum ValueType {
    /// A string that is not empty.
    Text,
    /// As `Text`, with a default.
    TextOr(&'static str),
    /// A string, also an empty one.
    AnyText,
    /// A string that is not empty, usually one of [`server_types::names`](super::server_types::names).
    ServerType,
    /// A boolean, false by default.
    Flag,
    /// A boolean without a default.
    Known,
    /// A number of tokens from 1 to [`MAX_TOKENS`].
    Tokens,
    /// A whole number of at least `least`.
    Count { least: u64, default: Option<usize> },
    /// A port, with its default.
    Port(u16),
    /// A number above 0.
    Rate,
    /// A number of seconds, more than 0 and at most a year; the default.
    Seconds(Option<Duration>),
    /// One of these words; the first is the default where `has_default`.
    OneOf { words: &'static [&'static str], has_default: bool },
    /// An http or https URL.
    Url,
    /// A JSON pointer (RFC 6901).
    Pointer,
    /// A list of strings.
    Texts,
    /// An object of strings.
    TextMap,
    /// Any object.
    Object,
    /// Any value.
    Any,
    /// A list of objects with a definition of this name in the schema.
    ListOf(&'static str),
    /// An object with a definition of this name in the schema.
    Definition(&'static str),
    /// A recipe of one of these types.
    Recipe(&'static [&'static str]),
    /// An object with these keys.
    Keys(&'static [Key]),
    /// As `Keys`, beside keys of other tools.
    SharedKeys(&'static [Key]),
}

/// Longest duration in the configuration, in seconds: a year. A longer one would overflow a timer.
pub(super) const MAX_SECONDS: f64 = 31_536_000.0;
/// Default time for a wake recipe (SPEC.md section 7): a server takes it to load a mid-sized model.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Default port of Wake-on-LAN packets: the discard port, by custom.
const WAKE_ON_LAN_PORT: u16 = 9;

const fn key(name: &'static str, value: ValueType, about: &'static str) -> Key {
    Key { name, value, about }
}

const VISIBILITY: ValueType = ValueType::OneOf { words: &["private", "public"], has_default: true };
const NAME: &str = "its name here, and at the hub where there is no `publishName`";
const PROVIDERS: Key = key("providers", ValueType::ListOf("provider"), "the LLMs of this machine");

/// Keys at the top of the file.
pub(super) const TOP: &[Key] = &[
    key("publisher", ValueType::Keys(PUBLISHER), "how this machine appears at the hub"),
    key("llm", ValueType::SharedKeys(LLM), "shared with mcpctl, whose other keys are ignored"),
    PROVIDERS,
    key("agents", ValueType::ListOf("agent"), "LLMs with a system prompt and default parameters"),
];

/// Keys of `llm`.
pub(super) const LLM: &[Key] = &[PROVIDERS];

/// Keys of `publisher`.
pub(super) const PUBLISHER: &[Key] = &[key(
    "suffix",
    ValueType::AnyText,
    "appended, with a dash, to every name without a `publishName`; `auto` is the host name",
)];

/// Keys of a provider.
pub(super) const PROVIDER: &[Key] = &[
    key("name", ValueType::Text, NAME),
    key(
        "publishName",
        ValueType::Text,
        "its name at the hub; the default is `name`, with the suffix if there is one",
    ),
    key(
        "type",
        ValueType::ServerType,
        "the kind of backend: `openai` (any OpenAI-compatible server, needs `url`), `vllm`, `llamacpp`, `lmstudio`, `ollama`, \
         `anthropic` (translated both ways), `mock` (built in)",
    ),
    key("model", ValueType::Text, "the model that callers get, whatever `model` they name"),
    key(
        "url",
        ValueType::Url,
        "the server, with or without `/v1`; the default is the type's usual local address",
    ),
    key("apiKey", ValueType::Text, "the server's key"),
    key("apiKeyEnv", ValueType::Text, "the environment variable that holds the server's key"),
    key(
        "proxy",
        ValueType::Text,
        "the HTTP proxy on the way to the server, `http://[USER:PASSWORD@]HOST:PORT`; each connection is a tunnel (`CONNECT`)",
    ),
    key("publish", ValueType::Flag, "whether it is offered"),
    key("visibility", VISIBILITY, "who sees and uses it: its owner, or everybody with a token"),
    key(
        "allowRemoteUrls",
        ValueType::Flag,
        "whether other users' requests may make the server fetch addresses, run its own tools and keep answers, and may \
         contain members that no known API has",
    ),
    key(
        "poolName",
        ValueType::Text,
        "LLMs with the same `poolName` share the work, and the callers' prompts; the owner of another user's pool has to \
         admit it",
    ),
    key(
        "tier",
        ValueType::OneOf { words: &["fast", "heavy"], has_default: false },
        "shown to callers, for choosing",
    ),
    key("description", ValueType::AnyText, "shown to callers, for choosing"),
    key(
        "maxConcurrency",
        ValueType::Count { least: 1, default: Some(ProviderConfig::MAX_CONCURRENCY) },
        "inferences that run at once",
    ),
    key(
        "maxQueue",
        ValueType::Count { least: 0, default: Some(ProviderConfig::MAX_QUEUE) },
        "inferences that may wait; the next one gets a 429",
    ),
    key(
        "timeoutSeconds",
        ValueType::Seconds(Some(ProviderConfig::TIMEOUT)),
        "longest silence of the backend, before or between tokens; a long answer never times out",
    ),
    key(
        "keepAttribution",
        ValueType::Flag,
        "whether Claude Code's line `x-anthropic-billing-header: …` is sent to a backend that is not Anthropic's: it changes \
         with each session, and costs the backend its prefix cache",
    ),
    key("allowModelOverride", ValueType::Flag, "whether the `model` that a caller names is passed on"),
    key(
        "onAbort",
        ValueType::OneOf { words: &["close", "drain"], has_default: true },
        "when a caller leaves: `close` the backend's request, or `drain` it to its end, for engines that crash on an abort",
    ),
    key(
        "wake",
        ValueType::Recipe(&["http", "command", "wol"]),
        "recipe to run when a call arrives and the backend is away",
    ),
    key(
        "sleep",
        ValueType::Recipe(&["http", "command"]),
        "recipe to run after `idleSeconds` without a task; needs `wake`",
    ),
    key(
        "availability",
        ValueType::Definition("availability"),
        "how to see whether the backend is awake, where `GET /models` does not tell",
    ),
    key(
        "contextLength",
        ValueType::Tokens,
        "tokens of prompt and answer together that the server accepts; the server is asked if it is not set",
    ),
    key(
        "maxOutputTokens",
        ValueType::Tokens,
        "tokens of the longest answer; the server is asked if it is not set",
    ),
    key(
        "capabilities",
        ValueType::Keys(CAPABILITIES),
        "what the model can do: `tools`, `vision`, `reasoning`, `embeddings`, each true or false; the server is asked for \
         those that are not set",
    ),
    key("tokens", ValueType::Count { least: 1, default: None }, "`mock`: number of words in an answer"),
    key("tokensPerSecond", ValueType::Rate, "`mock`: its speed"),
    key("failEvery", ValueType::Count { least: 1, default: None }, "`mock`: every n-th request fails"),
    key("panicEvery", ValueType::Count { least: 1, default: None }, "`mock`: every n-th request panics"),
];

/// Keys of `capabilities`.
pub(super) const CAPABILITIES: &[Key] = &[
    key("tools", ValueType::Known, "whether it calls the functions of a request"),
    key("vision", ValueType::Known, "whether it accepts images"),
    key("reasoning", ValueType::Known, "whether it returns its reasoning apart from the answer"),
    key("embeddings", ValueType::Known, "whether it embeds texts"),
];

/// Keys of a recipe.
pub(super) const RECIPE: &[Key] = &[
    key(
        "type",
        ValueType::OneOf { words: &["http", "command", "wol"], has_default: false },
        "an HTTP call, a command, or a Wake-on-LAN packet",
    ),
    key("url", ValueType::Url, "`http`: the URL; any 2xx status is success"),
    key("method", ValueType::TextOr("POST"), "`http`: the method"),
    key("headers", ValueType::TextMap, "`http`: headers of the request"),
    key("body", ValueType::Any, "`http`: a text, or an object that is sent as JSON"),
    key("command", ValueType::Text, "`command`: a program, run without a shell; its output is discarded"),
    key("args", ValueType::Texts, "`command`: its arguments"),
    key("mac", ValueType::Text, "`wol`: the machine's address, such as aa:bb:cc:dd:ee:ff"),
    key(
        "broadcast",
        ValueType::TextOr("255.255.255.255"),
        "`wol`: the IP address that the packet is sent to",
    ),
    key("port", ValueType::Port(WAKE_ON_LAN_PORT), "`wol`: the UDP port"),
    key(
        "maxWaitSeconds",
        ValueType::Seconds(Some(MAX_WAIT)),
        "how long it may take until the backend is available",
    ),
    key("idleSeconds", ValueType::Seconds(None), "`sleep`: runs after this time without a task"),
];

/// Keys of an availability check.
pub(super) const AVAILABILITY: &[Key] = &[
    key("url", ValueType::Url, "the URL to ask"),
    key("jsonPointer", ValueType::Pointer, "where in the answer to look (RFC 6901); empty for all of it"),
    key("equals", ValueType::Any, "the value that means available"),
];

/// Keys of an agent.
pub(super) const AGENT: &[Key] = &[
    key("name", ValueType::Text, NAME),
    key("publishName", ValueType::Text, "its name at the hub"),
    key("llm", ValueType::Text, "its LLM: a provider's name, or one at the hub"),
    key("description", ValueType::AnyText, "what it is for"),
    key("systemPrompt", ValueType::AnyText, "put before every conversation"),
    key("project", ValueType::AnyText, "passed on to the hub"),
    key("defaultParams", ValueType::Object, "parameters of the chat request, where the caller sets none"),
    key("extras", ValueType::Object, "passed on to the hub"),
    key("visibility", VISIBILITY, "who sees and uses it"),
    key("publish", ValueType::Flag, "whether it is offered"),
];

/// Keys of the credentials file.
pub(super) const CREDENTIALS: &[Key] = &[
    key("mcpdUrl", ValueType::Url, "the hub"),
    key("token", ValueType::Text, "the token"),
    key("allowInsecure", ValueType::Flag, "whether the token may be sent over plain http"),
    key(
        "proxy",
        ValueType::AnyText,
        "the HTTP proxy on the way to the hub, `http://[USER:PASSWORD@]HOST:PORT`; empty for none",
    ),
];
