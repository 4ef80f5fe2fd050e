//! Commands that list and change the objects of a hub.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{LimitArgs, LlmState};

/// Output formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table with more columns
    Wide,
    /// The hub's JSON
    Json,
    /// YAML or JSON for `apply -f`
    Yaml,
    /// Kind and name only
    Name,
}

/// `get`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm get llm
  virtual-llm get llm --mine
  virtual-llm get llm --status ready
  virtual-llm get llm qwen -o yaml
  virtual-llm get task --watch
  virtual-llm get task --owned                  calls of all users that failed at your LLMs
  virtual-llm get task task-5f0c --wait         prints the answer; exit 1 if there is none")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct GetArgs {
    /// What to list
    #[arg(value_enum)]
    pub(crate) kind: GetKind,
    /// Only the one with this name
    pub(crate) name: Option<String>,
    /// The output format
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
    /// Keep running and print each change
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Only what is yours
    #[arg(long, conflicts_with = "name")]
    pub(crate) mine: bool,
    /// Calls of all users that failed at your LLMs, the newest 200
    #[arg(long, conflicts_with_all = ["name", "mine"])]
    pub(crate) owned: bool,
    /// Only LLMs in this state
    #[arg(long, value_enum, value_name = "STATE", conflicts_with = "name")]
    pub(crate) status: Option<LlmState>,
    /// Wait until the task has ended, and print its answer
    #[arg(long, requires = "name", conflicts_with = "watch")]
    pub(crate) wait: bool,
}

/// Kinds of objects that `get` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetKind {
    /// Language models, public and virtual
    #[value(aliases = ["llms", "LLM", "LLMs"])]
    Llm,
    /// Agents
    #[value(alias = "agents")]
    Agent,
    /// Publishers
    #[value(alias = "sessions")]
    Session,
    /// Inference tasks
    #[value(aliases = ["tasks", "inference-task", "inference-tasks"])]
    Task,
    /// Pools, their members, and the LLMs that wait for admission
    #[value(alias = "pools")]
    Pool,
    /// Names and their owners
    #[value(alias = "names")]
    Name,
    /// Aliases, and what they stand for
    #[value(alias = "aliases")]
    Alias,
    /// Users and their limits, for admins
    #[value(alias = "users")]
    User,
    /// Tokens and their limits, for admins
    #[value(alias = "tokens")]
    Token,
    /// Processes of the hub's cluster, for admins
    #[value(alias = "hubs")]
    Hub,
}

/// `alias`.
#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// Set an alias for yourself; an admin sets it for all users
    #[command(after_help = "Examples:
  virtual-llm alias set 'claude-*' qwen         all names that begin with claude-
  virtual-llm alias set gpt-5 qwen
  virtual-llm alias set default qwen            calls that name no model")]
    Set {
        #[command(flatten)]
        alias: AliasOf,
        /// The LLM, pool or agent that it stands for
        #[arg(value_hint = clap::ValueHint::Other)]
        target: String,
    },
    /// Delete an alias
    #[command(after_help = "Example:\n  virtual-llm alias delete gpt-5")]
    Delete(AliasOf),
}

/// An alias of a user.
#[derive(Debug, Args)]
pub(crate) struct AliasOf {
    /// The name that tools ask for; a * at its end matches any rest
    #[arg(value_hint = clap::ValueHint::Other)]
    pub(crate) name: String,
    /// The user whose calls it serves (default: yours; for an admin all users')
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

/// `pool`.
#[derive(Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Admit another user's LLM to a pool: its owner can then read the prompts of the pool's callers
    #[command(after_help = "Example:\n  virtual-llm pool admit qwen qwen-bob")]
    Admit(PoolMember),
    /// Remove another user's LLM from a pool
    #[command(after_help = "Example:\n  virtual-llm pool remove qwen qwen-bob")]
    Remove(PoolMember),
}

/// A pool and an LLM in it.
#[derive(Debug, Args)]
pub(crate) struct PoolMember {
    /// The pool
    pub(crate) pool: String,
    /// The LLM's name at the hub
    pub(crate) llm: String,
}

/// `name`.
#[derive(Debug, Subcommand)]
pub(crate) enum NameCommand {
    /// Give a name to another user and delete what others have under it (admin)
    #[command(after_help = "Example:\n  virtual-llm name give qwen alice")]
    Give {
        /// The name of an LLM, a pool or an agent
        name: String,
        /// The new owner
        user: String,
    },
}

/// `user`.
#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Set the limits of a user (admin); what is not given stays as it is
    #[command(after_help = "Examples:
  virtual-llm user set alice --tokens-per-day 2M --requests-per-minute 60
  virtual-llm user set alice --models qwen,'llama-*' --max-concurrent 4
  virtual-llm user set alice --tokens-per-day none --models '*'

`virtual-llm get user` shows the limits, and what was used today.")]
    Set {
        /// The user
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
    },
}

/// `describe`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtual-llm describe llm qwen\n  virtual-llm describe pool team\n  virtual-llm describe agent helper\n  virtual-llm describe task inf-5d4c…"
)]
pub(crate) struct DescribeArgs {
    /// The kind of object
    #[arg(value_enum)]
    pub(crate) kind: DescribeKind,
    /// Its name; for a task its id, or the id of its request
    pub(crate) name: String,
}

/// Kinds of objects that `describe` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DescribeKind {
    /// A language model
    #[value(alias = "llms")]
    Llm,
    /// An agent
    #[value(alias = "agents")]
    Agent,
    /// A pool with its members
    #[value(alias = "pools")]
    Pool,
    /// An inference task, also one that ended long ago
    #[value(aliases = ["tasks", "inference-task", "inference-tasks"])]
    Task,
    /// A user and its limits, for admins
    #[value(alias = "users")]
    User,
    /// A token and its limits, for admins
    #[value(alias = "tokens")]
    Token,
}

/// `delete`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtual-llm delete llm gpt\n  virtual-llm delete task task-5f0c task-9a1b\n  virtual-llm delete name old-gpt"
)]
pub(crate) struct DeleteArgs {
    /// The kind of object
    #[arg(value_enum)]
    pub(crate) kind: ObjectKind,
    /// Names, or ids of tasks
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// Kinds of objects that `delete` deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectKind {
    /// A public LLM
    #[value(alias = "llms")]
    Llm,
    /// An agent
    #[value(alias = "agents")]
    Agent,
    /// An inference task
    #[value(aliases = ["tasks", "inference-task", "inference-tasks"])]
    Task,
    /// An unused name: another user can take it afterwards
    #[value(alias = "names")]
    Name,
}

/// `apply`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm apply -f llms.yaml
  virtual-llm get llm gpt -o yaml | virtual-llm apply -f -")]
pub(crate) struct ApplyArgs {
    /// YAML or JSON, one or several documents (- for standard input)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
}
