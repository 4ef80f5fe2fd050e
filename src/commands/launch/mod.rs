//! `launch`: starts a coding agent on a model of the hub.
//!
//! Hub, token and model are in the agent's environment, its arguments and temporary files. The user's files are not
//! changed, and the token is neither on a command line nor in a file.

mod agents;
mod child;
mod model;
mod network;
mod plan;
mod print;
mod target;

use actors::Credentials;

use self::{plan::Plan, target::Target};
use crate::{
    cli::{Global, LaunchArgs},
    client::HubClient,
    config::{self, Paths},
    exit::{Failure, Outcome},
    output,
    signals::Signals,
};

pub(crate) async fn run(global: &Global, args: &LaunchArgs, signals: Signals) -> Outcome {
    let credentials = config::credentials(global, &Paths::find(global)?)?;
    let program = if args.print { None } else { Some(child::find(args.agent)?) };
    let plan = super::until_signal(signals, prepare(&credentials, args)).await?;
    match program {
        Some(program) => child::run(&program, &plan, &credentials.token).await,
        None => output::piece(print::script(args.agent.program(), &plan, credentials.file.as_ref())),
    }
}

/// Finds the model at the hub, prints what the user should know, and makes the plan.
async fn prepare(credentials: &Credentials, args: &LaunchArgs) -> Result<Plan, Failure> {
    let abilities = model::find(&HubClient::new(credentials.clone())?, &args.name).await?;
    let target = Target {
        hub: credentials.hub_url.clone(),
        model: args.name.clone(),
        abilities,
        ca_file: credentials.ca_file.clone(),
        opencode_config: config::variable("OPENCODE_CONFIG_CONTENT"),
        has_qwen_settings: agents::has_qwen_settings(),
    };
    for text in target::warnings(args.agent, &target) {
        output::note(format!("warning: {}", output::printable(&text)));
    }
    let mut plan = agents::plan(args.agent, &target);
    network::adapt(&mut plan, credentials);
    plan.args.extend(args.args.iter().cloned().map(plan::Arg::Text));
    Ok(plan)
}
