//! `usage`: who used how much.

use clap::{Args, ValueEnum};

/// `usage`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm usage
  virtual-llm usage --by day --since 30d
  virtual-llm usage --by llm --user alice -o csv > usage.csv
  virtual-llm usage --owned                     who used your LLMs

A member sees its own calls, or with --owned those to its LLMs; an admin those of all users. Days are those of UTC.
~ in front of a number: some of it are counted pieces of streams without usage.")]
pub(crate) struct UsageArgs {
    /// What calls are added up by
    #[arg(long, value_enum, default_value_t = UsageBy::User)]
    pub(crate) by: UsageBy,
    /// The first day: a date, or a time before now
    #[arg(long, value_name = "DAY|TIME", default_value = "7d")]
    pub(crate) since: String,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY|TIME")]
    pub(crate) until: Option<String>,
    /// Only calls of this user
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Only calls of this LLM
    #[arg(long, value_name = "LLM", value_hint = clap::ValueHint::Other)]
    pub(crate) llm: Option<String>,
    /// Calls of all users to your LLMs
    #[arg(long)]
    pub(crate) owned: bool,
    /// The output format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = UsageFormat::Table)]
    pub(crate) output: UsageFormat,
}

/// What calls are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageBy {
    /// The callers
    User,
    /// The LLMs that answered
    Llm,
    /// The tokens of the callers
    Token,
    /// The days on which calls ended
    Day,
}

/// Output formats of `usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageFormat {
    /// A table with a line of totals
    Table,
    /// The hub's JSON
    Json,
    /// Comma-separated values, for a spreadsheet
    Csv,
}
