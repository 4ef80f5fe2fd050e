//! The command line: commands, options and help texts.

mod create;
mod duration;
mod global;
mod hub;
mod launch;
mod limits;
mod llm_state;
mod local;
mod manage;
mod registrar;
mod service;
mod size;
#[cfg(test)]
mod tests;
mod usage;
mod use_llm;

use clap::{Parser, Subcommand, ValueEnum};

pub(crate) use create::{CreateAgent, CreateCommand, CreateLlm};
pub(crate) use global::{Global, LogFormat};
pub(crate) use hub::{HubArgs, HubCommand, PoolsPolicy, Role, TokenCommand, TokenFormat, public_url};
pub(crate) use launch::{CodingAgent, LaunchArgs};
pub(crate) use limits::LimitArgs;
pub(crate) use llm_state::LlmState;
pub(crate) use local::LocalArgs;
pub(crate) use manage::{
    AliasCommand, AliasOf, ApplyArgs, DeleteArgs, DescribeArgs, DescribeKind, GetArgs, GetKind, NameCommand,
    ObjectKind, OutputFormat, PoolCommand, PoolMember, UserCommand,
};
pub(crate) use registrar::{
    AddArgs, LoginArgs, LogoutArgs, PauseArgs, ProviderAction, ProviderArgs, PublishArgs, RegistrarTimings,
    StatusArgs, TransportArg, UpArgs, WhoamiArgs,
};
pub(crate) use service::{InstallArgs, Manager, Served, ServiceCommand};
pub(crate) use usage::{UsageArgs, UsageBy, UsageFormat};
pub(crate) use use_llm::ChatArgs;

/// Offer the LLM on your workstation to your team through one hub, from behind NAT.
#[derive(Debug, Parser)]
#[command(
    name = "virtual-llm",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    args_override_self = true,
    max_term_width = 100,
    after_help = "Examples:
  virtual-llm up                                 a hub and what runs here, on one machine
  virtual-llm login https://hub.example          then: virtual-llm add && virtual-llm publish
  virtual-llm chat-llm qwen -m 'Say hello'
  virtual-llm launch claude qwen                 a coding agent on that model

Environment:
  MCPD_TOKEN    the token for the hub, over the credentials file
  RUST_LOG      log filter, over -v and -q        NO_COLOR    no colours

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 refused by the hub at start,
130 Ctrl-C before it was up."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a hub and publish the backends of this machine, without configuration
    Up(UpArgs),
    /// Publish the configured providers to the hub, until SIGTERM or Ctrl-C
    Publish(PublishArgs),
    /// Run a hub
    Hub(Box<HubArgs>),
    /// Check a token against a hub and write the credentials file
    Login(LoginArgs),
    /// Forget the hub and the token of `login`
    Logout(LogoutArgs),
    /// Show whose token is used, and at which hub
    Whoami(WhoamiArgs),
    /// Find local backends and write them to the configuration
    Add(AddArgs),
    /// Show the state of this machine's registrar
    Status(StatusArgs),
    /// Wake a provider's backend, put it to sleep, or show it
    Provider(ProviderArgs),
    /// Stop taking tasks, so that the GPU is yours
    Pause(PauseArgs),
    /// Take tasks again after a pause
    #[command(after_help = "Example:\n  virtual-llm resume")]
    Resume,
    /// Make this machine's registrar read its configuration again
    #[command(after_help = "Example:\n  virtual-llm add && virtual-llm reload")]
    Reload,
    /// List LLMs, agents, sessions, tasks, users or tokens
    Get(GetArgs),
    /// Show all details of one LLM, agent, pool, task, user or token
    Describe(DescribeArgs),
    /// Create a public LLM or an agent at the hub
    #[command(
        subcommand,
        after_help = "Example:\n  virtual-llm create llm gpt --type openai --model gpt-5 \\\n    --url https://api.openai.com/v1 --api-key-env OPENAI_API_KEY"
    )]
    Create(CreateCommand),
    /// Delete an LLM, an agent, a task or a name
    Delete(DeleteArgs),
    /// Create or update the objects in a file
    Apply(ApplyArgs),
    /// Admit LLMs of other users to your pools
    #[command(
        subcommand,
        after_help = "Example:\n  virtual-llm get pool qwen && virtual-llm pool admit qwen qwen-bob"
    )]
    Pool(PoolCommand),
    /// Let names that tools ask for, such as gpt-5, stand for an LLM
    #[command(subcommand, after_help = "Example:\n  virtual-llm alias set 'claude-*' qwen")]
    Alias(AliasCommand),
    /// Give a name to another user
    #[command(subcommand, after_help = "Example:\n  virtual-llm get name qwen")]
    Name(NameCommand),
    /// Chat with an LLM, a pool or an agent
    #[command(name = "chat-llm", alias = "chat")]
    ChatLlm(ChatArgs),
    /// Start a coding agent (Claude Code, Codex, …) on a model of the hub
    Launch(LaunchArgs),
    /// Offer the hub's models on this machine, for tools that cannot send a token
    Local(LocalArgs),
    /// Create, list, rotate and revoke the hub's tokens
    #[command(subcommand, after_help = "Example:\n  virtual-llm token create --user alice --expires 30d")]
    Token(TokenCommand),
    /// Limit what a user may use
    #[command(
        subcommand,
        after_help = "Example:\n  virtual-llm user set alice --tokens-per-day 2M --max-concurrent 4"
    )]
    User(UserCommand),
    /// Show who used how much: calls, tokens and time of the last days
    Usage(UsageArgs),
    /// Check the configuration, the hub and every backend
    #[command(after_help = "Example:\n  virtual-llm check")]
    Check,
    /// Run `publish` or `hub` as a service of systemd or launchd
    #[command(subcommand, after_help = "Example:\n  virtual-llm service install")]
    Service(ServiceCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  virtual-llm completions bash > ~/.local/share/bash-completion/completions/virtual-llm
  virtual-llm completions fish > ~/.config/fish/completions/virtual-llm.fish")]
    Completions {
        /// The shell
        #[arg(required_unless_present = "names")]
        shell: Option<clap_complete::Shell>,
        /// Print names for completion instead
        // Not a subcommand: the scripts would list it even if it is hidden.
        #[arg(long, hide = true)]
        names: Option<NamesOf>,
    },
    /// Write the manual pages
    #[command(after_help = "Example:\n  virtual-llm man ~/.local/share/man/man1")]
    Man {
        /// The directory to write to
        dir: std::path::PathBuf,
    },
    /// Print the JSON schema of the configuration, for an editor
    #[command(after_help = "Example:\n  virtual-llm schema > ~/.mcpctl/config.schema.json")]
    Schema,
}

/// Kinds of names that completion scripts ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NamesOf {
    /// LLMs, pools and agents
    Chat,
    /// Language models
    Llm,
    /// Agents
    Agent,
    /// Inference tasks
    Task,
    /// Aliases
    Alias,
    /// Publishers
    Session,
    /// Pools
    Pool,
    /// Names that have an owner
    Name,
    /// Users of the hub
    User,
    /// Ids of the hub's tokens
    Token,
    /// The providers of this machine's registrar
    Provider,
}
