//! `local`.

use clap::Args;

/// `local`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm local
  virtual-llm local --port 11435
  virtual-llm local --cors-origin chrome-extension://abcdefghijklmnopabcdefghijklmnop

Base URLs: http://127.0.0.1:11434 for Ollama's and Anthropic's API, http://127.0.0.1:11434/v1 for
OpenAI's. Any API key will do: it is replaced by your token. Of other users' programs, only root's are served
(on Linux; elsewhere the system does not tell whose they are).")]
pub(crate) struct LocalArgs {
    /// The port on this machine's loopback addresses; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 11434)]
    pub(crate) port: u16,
    /// Origin of web pages or browser extensions that may call it, besides those of this machine; repeatable
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) cors_origin: Vec<String>,
    /// Serve other users of this machine, too
    #[arg(long)]
    pub(crate) all_users: bool,
}
