//! `local`: the hub's inference APIs on a port of this machine, for tools that cannot send a token.
//!
//! A listening port that adds a token is a target. What may pass is decided in `peer_user` and `guard` (who asks) and
//! `hub::inference_path` (for what); `headers` says what is told to the other side.

mod dialect;
mod greeting;
mod guard;
mod handler;
mod headers;
mod listener;
mod outage;
mod peer_user;
mod server;
mod token;

use hub::Origins;

use crate::{
    cli::{Global, LocalArgs},
    client::{HubClient, HubRelay},
    config::{self, Paths},
    exit::{Code, Failure, Outcome},
    notify,
    signals::{Signals, Wanted},
};
use handler::Handler;
use listener::Listeners;
use outage::Outage;
use peer_user::PeerUsers;
use server::Server;
use token::Token;

/// Serves until a signal. A second signal ends running answers at once.
pub(crate) async fn run(global: &Global, args: &LocalArgs, mut signals: Signals) -> Outcome {
    let paths = Paths::find(global)?;
    let credentials = config::credentials(global, &paths)?;
    let origins = origins(&args.cors_origin)?;
    let client = HubClient::new(credentials.clone())?;
    let relay = HubRelay::new(&credentials)?;
    let listeners = Listeners::bind(args.port)?;
    let port = listeners.port();
    let token = Token::new(global.clone(), paths, &credentials);
    let users = if args.all_users { PeerUsers::all() } else { PeerUsers::own() };
    let handler = Handler { relay, token, origins, outage: Outage::default(), users };
    let server = Server::start(listeners, handler);
    tokio::select! {
        greeted = greeting::print(&client, port) => greeted?,
        wanted = signals.stop() => return Err(Failure::silent(match wanted {
            Wanted::Interrupt => Code::Interrupted,
            Wanted::Stop | Wanted::Reload => Code::Failed,
        })),
    }
    notify::ready();
    tokio::select! {
        _ = signals.stop() => {}
        () = notify::keep_alive(async || ()) => {}
    }
    notify::stopping();
    tokio::select! {
        () = server.stop() => Ok(()),
        _ = signals.stop() => Err(Failure::failed("stopped at once by a second signal")),
    }
}

/// The origins of `--cors-origin`.
fn origins(given: &[String]) -> Result<Origins, Failure> {
    let mut origins = Origins::default();
    for origin in given {
        // Every web site can make a page of the origin `null`.
        if matches!(origin.trim(), "*" | "null") {
            return Err(Failure::usage(format!(
                "--cors-origin {origin}: any web page that you open could use your token; name the origins that may"
            )));
        }
        origins.allow(origin).map_err(|error| Failure::usage(format!("--cors-origin {origin}: {error}")))?;
    }
    Ok(origins)
}

#[cfg(test)]
mod tests;
