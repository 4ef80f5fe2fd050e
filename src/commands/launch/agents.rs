//! What each coding agent is told, and where: the versions that were tried are in docs/coding-agents.md.
//! Sources: code.claude.com/docs/en/env-vars, developers.openai.com/codex/config-reference, opencode.ai/docs/config,
//! qwenlm.github.io/qwen-code-docs, aider.chat/docs/config.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{
    plan::{Arg, Plan, Setting},
    target::Target,
};
use crate::{cli::CodingAgent, config};

/// Variable with the token, for agents that read the name of the variable from their configuration.
const TOKEN: &str = "VIRTUAL_LLM_TOKEN";
/// Name of the hub among the providers of an agent.
const PROVIDER: &str = "virtual-llm";

/// The built-in agents of opencode, for each of which a file may name a model.
const OPENCODE_AGENTS: [&str; 7] = ["build", "plan", "general", "explore", "title", "summary", "compaction"];

impl CodingAgent {
    /// Name of the program.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
            Self::Qwen => "qwen",
            Self::Aider => "aider",
        }
    }

    /// Name of the product.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Claude => "Claude Code",
            Self::Codex => "Codex",
            Self::Opencode => "opencode",
            Self::Qwen => "Qwen Code",
            Self::Aider => "aider",
        }
    }

    /// Command that installs the program.
    pub(super) fn installation(self) -> &'static str {
        match self {
            Self::Claude => "npm install -g @anthropic-ai/claude-code",
            Self::Codex => "npm install -g @openai/codex",
            Self::Opencode => "npm install -g opencode-ai",
            Self::Qwen => "npm install -g @qwen-code/qwen-code",
            Self::Aider => "python -m pip install aider-install && aider-install",
        }
    }
}

/// Whether an admin has settings of Qwen Code on this machine.
pub(super) fn has_qwen_settings() -> bool {
    let files = ["/etc/qwen-code/settings.json", "/Library/Application Support/QwenCode/settings.json"];
    config::variable("QWEN_CODE_SYSTEM_SETTINGS_PATH").is_some()
        || files.iter().any(|file| Path::new(file).exists())
}

pub(super) fn plan(agent: CodingAgent, target: &Target) -> Plan {
    match agent {
        CodingAgent::Claude => claude(target),
        CodingAgent::Codex => codex(target),
        CodingAgent::Opencode => opencode(target),
        CodingAgent::Qwen => qwen(target),
        CodingAgent::Aider => aider(target),
    }
}

/// The plan of Claude Code. Its settings files take precedence over the environment, except for server, account and model if
/// `CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST` is set.
fn claude(target: &Target) -> Plan {
    let mut plan = Plan::default();
    plan.set("CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST", "1");
    plan.set("ANTHROPIC_BASE_URL", target.hub.trim_end_matches('/'));
    plan.token("ANTHROPIC_AUTH_TOKEN");
    for name in [
        "ANTHROPIC_MODEL",
        "ANTHROPIC_DEFAULT_OPUS_MODEL",
        "ANTHROPIC_DEFAULT_SONNET_MODEL",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        "ANTHROPIC_DEFAULT_FABLE_MODEL",
        // The haiku model of older versions.
        "ANTHROPIC_SMALL_FAST_MODEL",
        "CLAUDE_CODE_SUBAGENT_MODEL",
    ] {
        plan.set(name, &target.model);
    }
    // A line at the begin of the system prompt that differs in each request: no prefix cache would ever be used.
    plan.set("CLAUDE_CODE_ATTRIBUTION_HEADER", "0");
    // Telemetry, error reports and look-ups at Anthropic's servers, which are no part of this.
    plan.set("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    if let Some(context) = target.context() {
        plan.set("CLAUDE_CODE_MAX_CONTEXT_TOKENS", context.to_string());
    }
    if let Some(output) = target.output() {
        plan.set("CLAUDE_CODE_MAX_OUTPUT_TOKENS", output.to_string());
    }
    if let Some(file) = &target.ca_file {
        plan.set("NODE_EXTRA_CA_CERTS", file);
    }
    plan.unset.extend([
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_UNIX_SOCKET",
        "CLAUDE_CODE_API_BASE_URL",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_ANTHROPIC_AWS",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_USE_GATEWAY",
        "CLAUDE_CODE_USE_MANTLE",
        "CLAUDE_CODE_USE_VERTEX",
    ]);
    plan
}

/// Codex: options take precedence over config.toml; the variable with the token is named there.
fn codex(target: &Target) -> Plan {
    let mut plan = Plan::default();
    plan.token(TOKEN);
    let mut option = |key: &str, value: Value| {
        // JSON's strings and numbers are TOML's.
        plan.args(["-c".to_owned(), format!("{key}={value}")]);
    };
    option("model", target.model.as_str().into());
    option("review_model", target.model.as_str().into());
    option("model_provider", PROVIDER.into());
    for (key, value) in [
        ("name", PROVIDER.to_owned()),
        ("base_url", target.base_url()),
        ("env_key", TOKEN.to_owned()),
        ("wire_api", "responses".to_owned()),
    ] {
        option(&format!("model_providers.{PROVIDER}.{key}"), value.into());
    }
    // It has no setting for the length of an answer, and asks for none.
    if let Some(context) = target.context() {
        option("model_context_window", context.into());
    }
    if let Some(file) = &target.ca_file {
        plan.set("CODEX_CA_CERTIFICATE", file);
    }
    plan
}

/// The plan of opencode, which merges the configuration in a variable over that of all files.
fn opencode(target: &Target) -> Plan {
    let mut plan = Plan::default();
    plan.token(TOKEN);
    let model = format!("{PROVIDER}/{}", target.model);
    let mut limits = json!({ "name": target.model });
    if let (Some(context), Some(output)) = (target.context(), target.output()) {
        limits["limit"] = json!({ "context": context, "output": output });
    }
    let provider = json!({
        "npm": "@ai-sdk/openai-compatible",
        "name": PROVIDER,
        "options": { "baseURL": target.base_url(), "apiKey": format!("{{env:{TOKEN}}}") },
        "models": { &target.model: limits },
    });
    let mut config = own_config(target.opencode_config.as_deref());
    config.insert("model".to_owned(), model.as_str().into());
    config.insert("small_model".to_owned(), model.as_str().into());
    // No other provider gets the code by a file's setting.
    config.insert("enabled_providers".to_owned(), json!([PROVIDER]));
    config.insert("disabled_providers".to_owned(), json!([]));
    insert(&mut config, "provider", PROVIDER, provider);
    for agent in OPENCODE_AGENTS {
        insert(&mut config, "agent", agent, json!({ "model": model }));
    }
    plan.set("OPENCODE_CONFIG_CONTENT", Value::from(config).to_string());
    if let Some(file) = &target.ca_file {
        plan.set("NODE_EXTRA_CA_CERTS", file);
    }
    plan
}

/// The object in a variable; a text that is none is replaced.
fn own_config(text: Option<&str>) -> Map<String, Value> {
    match text.map(serde_json::from_str) {
        Some(Ok(Value::Object(config))) => config,
        _ => Map::new(),
    }
}

/// Sets `config[table][key]`, member by member if both are objects.
fn insert(config: &mut Map<String, Value>, table: &str, key: &str, value: Value) {
    let table = config.entry(table).or_insert_with(|| json!({}));
    if !table.is_object() {
        *table = json!({});
    }
    match (&mut table[key], value) {
        (Value::Object(before), Value::Object(members)) => before.extend(members),
        (before, value) => *before = value,
    }
}

/// Qwen Code: options take precedence over its settings; the key is in the environment.
fn qwen(target: &Target) -> Plan {
    let mut plan = Plan::default();
    plan.token("OPENAI_API_KEY");
    plan.set("OPENAI_BASE_URL", target.base_url());
    plan.set("OPENAI_MODEL", &target.model);
    plan.args(["--auth-type", "openai", "--model", &target.model, "--openai-base-url", &target.base_url()]);
    // Without it an answer has at most 8,000 tokens, and then 64,000, whatever the model can do.
    if let Some(output) = target.output() {
        plan.set("QWEN_CODE_MAX_OUTPUT_TOKENS", output.to_string());
    }
    // No option has the context: the only settings over the user's are the system's.
    if let Some(context) = target.context().filter(|_| !target.has_qwen_settings) {
        let settings = json!({ "model": { "generationConfig": { "contextWindowSize": context } } });
        let file = plan.file("settings.json", settings.to_string());
        plan.set.push(("QWEN_CODE_SYSTEM_SETTINGS_PATH", Setting::File(file)));
    }
    if let Some(file) = &target.ca_file {
        plan.set("NODE_EXTRA_CA_CERTS", file);
    }
    plan
}

/// aider: options take precedence over `.aider.conf.yml` and `.env` files. Its own variable for the key takes precedence over
/// an `OPENAI_API_KEY` in them.
fn aider(target: &Target) -> Plan {
    let mut plan = Plan::default();
    plan.token("AIDER_OPENAI_API_KEY");
    plan.token("OPENAI_API_KEY");
    let model = format!("openai/{}", target.model);
    for option in ["--model", "--weak-model", "--editor-model"] {
        plan.args([option, &model]);
    }
    plan.args(["--openai-api-base", &target.base_url()]);
    if let (Some(context), Some(output)) = (target.context(), target.output()) {
        let metadata = json!({ model: {
            "max_tokens": output, "max_input_tokens": context, "max_output_tokens": output,
            "input_cost_per_token": 0, "output_cost_per_token": 0, "litellm_provider": "openai", "mode": "chat",
        } });
        let file = plan.file("models.json", metadata.to_string());
        plan.args(["--model-metadata-file"]);
        plan.args.push(Arg::File(file));
    } else {
        // It would ask whether to open a page about the unknown model.
        plan.args(["--no-show-model-warnings"]);
    }
    if let Some(file) = &target.ca_file {
        plan.set("SSL_CERT_FILE", file);
    }
    plan
}

#[cfg(test)]
mod tests;
