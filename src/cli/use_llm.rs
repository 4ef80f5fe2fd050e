//! `chat-llm`.

use clap::Args;

/// `chat-llm NAME`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm chat-llm qwen
  virtual-llm chat-llm qwen -m 'Why is the sky blue?' --max-tokens 100
  git diff | virtual-llm chat-llm qwen --system 'Review this change.' -m -
  virtual-llm chat-llm qwen --async -m 'Write a long story'")]
pub(crate) struct ChatArgs {
    /// The LLM, pool or agent
    pub(crate) name: String,
    /// Send one message and exit (- reads standard input)
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Option<String>,
    /// The system prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Sampling temperature
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) temperature: Option<f64>,
    /// Maximum length of an answer, in tokens
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u64>,
    /// Do not stream: print the answer when it is complete
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Do not save the input history (else in HOME/chat-history, mode 0600)
    #[arg(long)]
    pub(crate) no_history: bool,
    /// Queue the message as a durable task and print the task's id
    #[arg(long = "async", requires = "message")]
    pub(crate) enqueue: bool,
}
