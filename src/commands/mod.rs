//! One file a command.

mod add;
mod agents;
mod apply;
mod chat_llm;
mod check;
mod columns;
mod completions;
mod create;
mod describe;
mod get;
mod hub;
mod login;
mod man;
mod name;
mod pool;
mod publish;
mod rows;
mod service;
mod status;
mod table;
mod token;
mod up;
mod whole;

use crate::{
    cli::{Cli, Command, Global},
    client::HubClient,
    config::{self, Places},
    exit::{Code, Failure, Outcome},
    output,
    signals::Signals,
};

/// Runs what was asked for.
pub(crate) async fn run(cli: Cli) -> Outcome {
    let global = &cli.global;
    let signals =
        Signals::listen().map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    match cli.command {
        Command::Up(args) => up::run(global, &args, signals).await,
        Command::Publish(args) => publish::run(global, &args, signals).await,
        Command::ChatLlm(args) => chat_llm::run(global, &args, signals).await,
        Command::Get(args) => briefly(signals, get::run(global, &args)).await,
        Command::Hub(args) => hub::run(args, signals).await,
        Command::Status(args) => briefly(signals, status::run(global, &args)).await,
        Command::Provider(args) => briefly(signals, status::provider(global, &args)).await,
        Command::Pause(args) => briefly(signals, status::pause(global, &args)).await,
        Command::Resume => briefly(signals, status::resume(global)).await,
        Command::Reload => briefly(signals, status::reload(global)).await,
        Command::Login(args) => briefly(signals, login::run(global, &args)).await,
        Command::Add(args) => briefly(signals, add::run(global, &args)).await,
        Command::Describe(args) => briefly(signals, describe::run(global, &args)).await,
        Command::Create(command) => briefly(signals, create::run(global, &command)).await,
        Command::Delete(args) => briefly(signals, create::delete(global, &args)).await,
        Command::Apply(args) => briefly(signals, apply::run(global, &args)).await,
        Command::Pool(command) => briefly(signals, pool::run(global, &command)).await,
        Command::Name(command) => briefly(signals, name::run(global, &command)).await,
        Command::Token(command) => briefly(signals, token::run(global, &command)).await,
        Command::Check => briefly(signals, check::run(global)).await,
        Command::Service(command) => service::run(global, &command),
        Command::Completions { names: Some(of), .. } => {
            briefly(signals, completions::names(global, of)).await
        }
        Command::Completions { shell, .. } => shell.map_or(Ok(()), completions::run),
        Command::Man { dir } => man::run(&dir),
        Command::Schema => output::line(format!("{:#}", config::schema())),
    }
}

/// For commands that simply end at a signal.
async fn briefly(mut signals: Signals, command: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        outcome = command => outcome,
        wanted = signals.stop() => Err(Failure::silent(match wanted {
            crate::signals::Wanted::Interrupt => Code::Interrupted,
            _ => Code::Failed,
        })),
    }
}

/// The hub that options, variables and the credentials file name.
fn hub_client(global: &Global) -> Result<HubClient, Failure> {
    let places = Places::find(global)?;
    HubClient::new(config::hub(global, &places)?, global.ca_file.as_deref())
}
