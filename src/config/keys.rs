//! The table of configuration keys. The reader's types and defaults, the warnings of near misses, the JSON schema and the
//! README's table all come from it; rules between keys are in the readers and, for editors, in `schema.rs`.

use std::time::Duration;

use actors::ProviderConfig;

/// One key of a JSON object.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) value: Shape,
    /// What it means, as Markdown.
    pub(super) about: &'static str,
}

/// The values that a key takes.
pub(super) enum Shape {
    /// A string that is not empty.
    Text,
    /// As `Text`, with a default.
    TextOr(&'static str),
    /// A string, also an empty one.
    AnyText,
    /// A string that is not empty; these are examples.
    TextLike(&'static [&'static str]),
    /// A boolean, false by default.
    Flag,
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

/// Longest duration in the configuration, in seconds: a year. More would overflow a timer.
pub(super) const MAX_SECONDS: f64 = 31_536_000.0;
/// Default time for a wake recipe (SPEC.md section 7): what a server of a mid-sized model takes to start.
const MAX_WAIT: Duration = Duration::from_mins(1);
/// Default port of Wake-on-LAN packets: the discard port, by custom.
const WAKE_ON_LAN_PORT: u16 = 9;

const fn key(name: &'static str, value: Shape, about: &'static str) -> Key {
    Key { name, value, about }
}

const VISIBILITY: Shape = Shape::OneOf { words: &["private", "public"], has_default: true };
const NAME: &str = "its name here, and at the hub where there is no `publishName`";
const PROVIDERS: Key = key("providers", Shape::ListOf("provider"), "the LLMs of this machine");

/// Keys at the top of the file.
pub(super) const TOP: &[Key] = &[
    key("publisher", Shape::Keys(PUBLISHER), "how this machine appears at the hub"),
    key("llm", Shape::SharedKeys(LLM), "shared with mcpctl, whose other keys are ignored"),
    PROVIDERS,
    key("agents", Shape::ListOf("agent"), "LLMs with a system prompt and default parameters"),
];

/// Keys of `llm`.
pub(super) const LLM: &[Key] = &[PROVIDERS];

/// Keys of `publisher`.
pub(super) const PUBLISHER: &[Key] = &[key(
    "suffix",
    Shape::AnyText,
    "appended, with a dash, to every name without a `publishName`; `auto` is the host name",
)];

/// Keys of a provider.
pub(super) const PROVIDER: &[Key] = &[
    key("name", Shape::Text, NAME),
    key(
        "publishName",
        Shape::Text,
        "its name at the hub; the default is `name`, with the suffix if there is one",
    ),
    key(
        "type",
        Shape::TextLike(&["openai", "vllm", "llamacpp", "lmstudio", "ollama", "anthropic", "mock"]),
        "the kind of backend: `openai` (any OpenAI-compatible server, needs `url`), `vllm`, `llamacpp`, `lmstudio`, `ollama`, \
         `anthropic` (translated both ways), `mock` (built in)",
    ),
    key("model", Shape::Text, "the model that callers get, whatever `model` they name"),
    key(
        "url",
        Shape::Url,
        "the server, with or without `/v1`; the default is the type's usual local address",
    ),
    key("apiKey", Shape::Text, "the server's key"),
    key("apiKeyEnv", Shape::Text, "the environment variable that holds the server's key"),
    key("publish", Shape::Flag, "whether it is offered"),
    key("visibility", VISIBILITY, "who sees and uses it: its owner, or everybody with a token"),
    key(
        "allowRemoteUrls",
        Shape::Flag,
        "whether other users' requests may make the server fetch addresses, run its own tools and keep answers, and may \
         contain members that no known API has",
    ),
    key(
        "poolName",
        Shape::Text,
        "LLMs with the same `poolName` share the work, and the callers' prompts; the owner of another user's pool has to \
         admit it",
    ),
    key(
        "tier",
        Shape::OneOf { words: &["fast", "heavy"], has_default: false },
        "shown to callers, for choosing",
    ),
    key("description", Shape::AnyText, "shown to callers, for choosing"),
    key(
        "maxConcurrency",
        Shape::Count { least: 1, default: Some(ProviderConfig::MAX_CONCURRENCY) },
        "inferences that run at once",
    ),
    key(
        "maxQueue",
        Shape::Count { least: 0, default: Some(ProviderConfig::MAX_QUEUE) },
        "inferences that may wait; the next one gets a 429",
    ),
    key(
        "timeoutSeconds",
        Shape::Seconds(Some(ProviderConfig::TIMEOUT)),
        "longest silence of the backend, before or between tokens; a long answer never times out",
    ),
    key("allowModelOverride", Shape::Flag, "whether the `model` that a caller names is passed on"),
    key(
        "onAbort",
        Shape::OneOf { words: &["close", "drain"], has_default: true },
        "when a caller leaves: `close` the backend's request, or `drain` it to its end, for engines that crash on an abort",
    ),
    key(
        "wake",
        Shape::Recipe(&["http", "command", "wol"]),
        "recipe to run when a call arrives and the backend is away",
    ),
    key(
        "sleep",
        Shape::Recipe(&["http", "command"]),
        "recipe to run after `idleSeconds` without a task; needs `wake`",
    ),
    key(
        "availability",
        Shape::Definition("availability"),
        "how to see whether the backend is awake, where `GET /models` does not tell",
    ),
    key("tokens", Shape::Count { least: 1, default: None }, "`mock`: number of words in an answer"),
    key("tokensPerSecond", Shape::Rate, "`mock`: its speed"),
    key("failEvery", Shape::Count { least: 1, default: None }, "`mock`: every n-th request fails"),
    key("panicEvery", Shape::Count { least: 1, default: None }, "`mock`: every n-th request panics"),
];

/// Keys of a recipe.
pub(super) const RECIPE: &[Key] = &[
    key(
        "type",
        Shape::OneOf { words: &["http", "command", "wol"], has_default: false },
        "an HTTP call, a command, or a Wake-on-LAN packet",
    ),
    key("url", Shape::Url, "`http`: the address; any 2xx is success"),
    key("method", Shape::TextOr("POST"), "`http`: the method"),
    key("headers", Shape::TextMap, "`http`: headers of the request"),
    key("body", Shape::Any, "`http`: a text, or an object that is sent as JSON"),
    key("command", Shape::Text, "`command`: a program, run without a shell; its output is discarded"),
    key("args", Shape::Texts, "`command`: its arguments"),
    key("mac", Shape::Text, "`wol`: the machine's address, such as aa:bb:cc:dd:ee:ff"),
    key("broadcast", Shape::TextOr("255.255.255.255"), "`wol`: the IP address that the packet is sent to"),
    key("port", Shape::Port(WAKE_ON_LAN_PORT), "`wol`: the UDP port"),
    key(
        "maxWaitSeconds",
        Shape::Seconds(Some(MAX_WAIT)),
        "how long it may take until the backend is available",
    ),
    key("idleSeconds", Shape::Seconds(None), "`sleep`: runs after this time without a task"),
];

/// Keys of an availability check.
pub(super) const AVAILABILITY: &[Key] = &[
    key("url", Shape::Url, "the address to ask"),
    key("jsonPointer", Shape::Pointer, "where in the answer to look (RFC 6901); empty for all of it"),
    key("equals", Shape::Any, "the value that means available"),
];

/// Keys of an agent.
pub(super) const AGENT: &[Key] = &[
    key("name", Shape::Text, NAME),
    key("publishName", Shape::Text, "its name at the hub"),
    key("llm", Shape::Text, "its LLM: a provider's name, or one at the hub"),
    key("description", Shape::AnyText, "what it is for"),
    key("systemPrompt", Shape::AnyText, "put before every conversation"),
    key("project", Shape::AnyText, "passed on to the hub"),
    key("defaultParams", Shape::Object, "parameters of the chat request, where the caller sets none"),
    key("extras", Shape::Object, "passed on to the hub"),
    key("visibility", VISIBILITY, "who sees and uses it"),
    key("publish", Shape::Flag, "whether it is offered"),
];

/// Keys of the credentials file.
pub(super) const CREDENTIALS: &[Key] = &[
    key("mcpdUrl", Shape::Url, "the hub"),
    key("token", Shape::Text, "the token"),
    key("allowInsecure", Shape::Flag, "whether the token may be sent over plain http"),
];
