//! Commands that create objects at a hub.

use clap::{Args, Subcommand};

/// `create`.
#[derive(Debug, Subcommand)]
pub(crate) enum CreateCommand {
    /// Create a public LLM: the hub calls its URL with the key stored at the hub
    Llm(CreateLlm),
    /// Create an agent: an LLM with a system prompt and defaults
    Agent(CreateAgent),
}

/// `create llm`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  virtual-llm create llm gpt --type openai --model gpt-5 \\
    --url https://api.openai.com/v1 --api-key-env OPENAI_API_KEY")]
pub(crate) struct CreateLlm {
    /// Its name at the hub
    pub(crate) name: String,
    /// The API of the URL: openai, anthropic, vllm, ollama
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: String,
    /// The upstream's model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    /// The upstream's address
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,
    /// The environment variable with the key, which is stored at the hub
    #[arg(long, value_name = "VAR")]
    pub(crate) api_key_env: Option<String>,
    /// Join this pool
    #[arg(long, value_name = "POOL")]
    pub(crate) pool_name: Option<String>,
    /// fast or heavy
    #[arg(long, value_parser = ["fast", "heavy"])]
    pub(crate) tier: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Who can see and use it
    #[arg(long, value_parser = ["public", "private"])]
    pub(crate) visibility: Option<String>,
}

/// `create agent`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  virtual-llm create agent helper --llm qwen --system-prompt 'Answer in one sentence.'")]
pub(crate) struct CreateAgent {
    /// Its name at the hub
    pub(crate) name: String,
    /// The LLM or pool that it calls
    #[arg(long, value_name = "LLM")]
    pub(crate) llm: String,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system_prompt: Option<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The project it belongs to
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Default request parameters, as a JSON object
    #[arg(long, value_name = "JSON")]
    pub(crate) default_params: Option<String>,
    /// Who can see and use it
    #[arg(long, value_parser = ["public", "private"])]
    pub(crate) visibility: Option<String>,
}
