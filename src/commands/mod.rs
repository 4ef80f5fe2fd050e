//! The commands: one file for each, or for a group of them, beside what they share to print.

mod account;
mod add;
mod agent_details;
mod apply;
mod cells;
mod chat_llm;
mod check;
mod columns;
mod completions;
mod describe;
mod get;
mod hub;
mod hub_findings;
mod launch;
mod limits;
mod llm_state;
mod local;
mod login;
mod man;
mod manage;
mod publish;
mod service;
mod status;
mod table;
mod token;
mod token_id;
mod up;
mod usage;
mod wait;

use crate::{
    cli::{Cli, Command, Global},
    client::HubClient,
    config::{self, Paths},
    exit::{Code, Failure, Outcome},
    output,
    signals::{Signals, Wanted},
};

pub(crate) async fn run(cli: Cli) -> Outcome {
    let global = &cli.global;
    let signals =
        Signals::listen().map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    match cli.command {
        Command::Up(args) => up::run(global, &args, signals).await,
        Command::Publish(args) => publish::run(global, &args, signals).await,
        Command::Launch(args) => launch::run(global, &args, signals).await,
        Command::Local(args) => local::run(global, &args, signals).await,
        Command::ChatLlm(args) => chat_llm::run(global, &args, signals).await,
        Command::Get(args) => until_signal(signals, get::run(global, &args)).await,
        Command::Hub(args) => hub::run(*args, signals).await,
        Command::Status(args) => until_signal(signals, status::run(global, &args)).await,
        Command::Provider(args) => until_signal(signals, status::provider(global, &args)).await,
        Command::Pause(args) => until_signal(signals, status::pause(global, &args)).await,
        Command::Resume => until_signal(signals, status::resume(global)).await,
        Command::Reload => until_signal(signals, status::reload(global)).await,
        Command::Login(args) => until_signal(signals, login::run(global, &args)).await,
        Command::Logout(args) => until_signal(signals, account::logout(global, &args)).await,
        Command::Whoami(args) => until_signal(signals, account::whoami(global, &args)).await,
        Command::Add(args) => until_signal(signals, add::run(global, &args)).await,
        Command::Describe(args) => until_signal(signals, describe::run(global, &args)).await,
        Command::Create(command) => until_signal(signals, manage::create(global, &command)).await,
        Command::Delete(args) => until_signal(signals, manage::delete(global, &args)).await,
        Command::Apply(args) => until_signal(signals, apply::run(global, &args)).await,
        Command::Pool(command) => until_signal(signals, manage::pool(global, &command)).await,
        Command::Alias(command) => until_signal(signals, manage::alias(global, &command)).await,
        Command::Name(command) => until_signal(signals, manage::name(global, &command)).await,
        Command::Token(command) => until_signal(signals, token::run(global, &command)).await,
        Command::User(command) => until_signal(signals, limits::run(global, &command)).await,
        Command::Usage(args) => until_signal(signals, usage::run(global, &args)).await,
        Command::Check => until_signal(signals, check::run(global)).await,
        Command::Service(command) => service::run(global, &command),
        Command::Completions { names: Some(of), .. } => {
            until_signal(signals, completions::names(global, of)).await
        }
        Command::Completions { shell, .. } => shell.map_or(Ok(()), completions::run),
        Command::Man { dir } => man::run(&dir),
        Command::Schema => output::line(format!("{:#}", config::schema())),
    }
}

/// Runs a command that ends at a signal.
async fn until_signal<T>(
    mut signals: Signals,
    command: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        outcome = command => outcome,
        wanted = signals.stop() => Err(Failure::silent(match wanted {
            Wanted::Interrupt => Code::Interrupted,
            Wanted::Stop | Wanted::Reload => Code::Failed,
        })),
    }
}

/// Client of the hub that options, variables and the credentials file name.
fn hub_client(global: &Global) -> Result<HubClient, Failure> {
    HubClient::new(config::credentials(global, &Paths::find(global)?)?)
}
