//! `launch`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

/// `launch AGENT NAME`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm launch claude qwen
  virtual-llm launch codex qwen -- exec 'Explain this folder.'
  virtual-llm launch opencode qwen --print")]
pub(crate) struct LaunchArgs {
    /// The coding agent
    #[arg(value_enum)]
    pub(crate) agent: CodingAgent,
    /// The LLM, pool or agent
    pub(crate) name: String,
    /// Print shell commands that do the same, without the token, instead of starting the agent
    #[arg(long)]
    pub(crate) print: bool,
    /// Arguments for the coding agent
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
}

/// Coding agents that `launch` can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CodingAgent {
    /// Claude Code
    Claude,
    /// Codex
    Codex,
    /// opencode
    Opencode,
    /// Qwen Code
    Qwen,
    /// aider
    Aider,
}
