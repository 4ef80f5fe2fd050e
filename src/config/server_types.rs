//! The kinds of model servers: the values of a provider's `type`.

use actors::options::ServerKind;

/// The API that a kind of server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    OpenAi,
    Anthropic,
    /// The built-in mock.
    Mock,
}

/// A kind of model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerType {
    /// The value of `type` in the configuration.
    pub(crate) name: &'static str,
    /// Product name, for texts.
    pub(crate) label: &'static str,
    /// The type at the hub.
    pub(crate) hub_type: &'static str,
    pub(crate) api: Api,
    /// URL of the API if `url` is not set; without one `url` is required.
    pub(crate) default_url: Option<&'static str>,
    /// The program, if it tells by addresses of its own what a model can do.
    pub(crate) kind: ServerKind,
}

const fn openai(
    name: &'static str,
    label: &'static str,
    hub_type: &'static str,
    default_url: Option<&'static str>,
    kind: ServerKind,
) -> ServerType {
    ServerType { name, label, hub_type, api: Api::OpenAi, default_url, kind }
}

/// Any OpenAI-compatible server.
pub(crate) const OPENAI: ServerType = openai("openai", "the server", "openai", None, ServerKind::Unknown);

/// Servers that usually run on the user's own machine, in the order in which `up` and `add` look for them.
pub(crate) const LOCAL: [ServerType; 4] = [
    openai("ollama", "Ollama", "ollama", Some("http://127.0.0.1:11434/v1"), ServerKind::Ollama),
    openai("lmstudio", "LM Studio", "openai", Some("http://127.0.0.1:1234/v1"), ServerKind::LmStudio),
    openai("vllm", "vLLM", "vllm", Some("http://127.0.0.1:8000/v1"), ServerKind::Unknown),
    openai("llamacpp", "llama.cpp", "openai", Some("http://127.0.0.1:8080/v1"), ServerKind::LlamaCpp),
];

const OTHERS: [ServerType; 3] = [
    OPENAI,
    ServerType {
        name: "anthropic",
        label: "Anthropic",
        hub_type: "anthropic",
        api: Api::Anthropic,
        default_url: Some("https://api.anthropic.com/v1"),
        kind: ServerKind::Unknown,
    },
    ServerType {
        name: "mock",
        label: "mock",
        hub_type: "openai",
        api: Api::Mock,
        default_url: None,
        kind: ServerKind::Unknown,
    },
];

fn all() -> impl Iterator<Item = ServerType> {
    OTHERS.into_iter().chain(LOCAL)
}

pub(super) fn named(name: &str) -> Option<ServerType> {
    all().find(|server| server.name == name)
}

/// The values of `type`.
pub(super) fn names() -> Vec<&'static str> {
    all().map(|server| server.name).collect()
}
