//! `service`.

use clap::{Args, Subcommand, ValueEnum};

/// `service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Write the service file of systemd or launchd
    Install(InstallArgs),
}

/// `service install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm service install                  publish, for you
  sudo virtual-llm service install hub -- --public-url https://hub.example
  virtual-llm service install --print")]
pub(crate) struct InstallArgs {
    /// The command to run
    #[arg(value_enum, default_value = "publish")]
    pub(crate) what: Served,
    /// The service manager [default: this system's]
    #[arg(long, value_enum)]
    pub(crate) manager: Option<Manager>,
    /// Print the file instead of writing it
    #[arg(long)]
    pub(crate) print: bool,
    /// Replace an existing file that differs
    #[arg(long)]
    pub(crate) force: bool,
    /// Options for the command itself
    #[arg(last = true, value_name = "OPTIONS")]
    pub(crate) rest: Vec<String>,
}

/// Commands that a service can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Served {
    /// The registrar, as this user
    Publish,
    /// The hub, as a user of its own
    Hub,
}

/// Service managers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    /// Linux
    Systemd,
    /// macOS
    Launchd,
}
