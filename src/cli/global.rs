//! Options of all commands, before or after the name of the command.

use std::path::PathBuf;

use actors::Secret;
use clap::{
    ArgAction, Args, ValueEnum,
    builder::{FalseyValueParser, StringValueParser, TypedValueParser as _},
};

/// Paths, hub and level of the log.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The directory of the files below [env: `MCPCTL_HOME`] [default: ~/.mcpctl]
    // `config::paths` reads the variable, as it does MCPD_URL: clap would use an empty one as a value.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help = "The folder of all files below [env: MCPCTL_HOME] [default: ~/.mcpctl]"
    )]
    pub(crate) home: Option<PathBuf>,
    /// The configuration [default: config.json in --home]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The hub's URL and token [default: credentials in --home]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// The publisher's sticky session id [default: provider-session in --home]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) session_file: Option<PathBuf>,
    /// The hub, over the credentials file [env: `MCPD_URL`]
    #[arg(
        long,
        global = true,
        value_name = "URL",
        help = "The hub, over the credentials file [env: MCPD_URL]"
    )]
    pub(crate) hub_url: Option<String>,
    /// Send the token over plain http to another machine
    #[arg(long, global = true, env = "MCPD_ALLOW_INSECURE", hide_env_values = true, value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) allow_insecure: bool,
    /// Trust these certificates (PEM) for the hub, in addition to the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The HTTP proxy on the way to the hub, over `HTTPS_PROXY`; empty for none
    #[arg(
        long,
        global = true,
        value_name = "URL",
        value_parser = StringValueParser::new().map(Secret::new),
        help = "The HTTP proxy on the way to the hub, over HTTPS_PROXY and the like; '' for none"
    )]
    pub(crate) proxy: Option<Secret>,
    /// Log more (-vv: everything)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log warnings only (-qq: errors)
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    pub(crate) quiet: u8,
}

/// `--log-format` of the hub and the registrar: lines for people, or one JSON object a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}
