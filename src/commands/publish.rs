//! `publish`: the registrar.

use actors::{Credentials, Ended, Options, Registrar, StartError, Timings};

use crate::{
    cli::{Global, PublishArgs, RegistrarTimings},
    config::{self, Hub, Places, Published},
    control::Server,
    exit::{Code, Failure, Outcome},
    notify,
    signals::{Signals, Wanted},
};

/// Runs it. The order of the checks is the contract's (SPEC.md section 6, Start).
pub(crate) async fn run(global: &Global, args: &PublishArgs, mut signals: Signals) -> Outcome {
    let timings = timings(&args.timings)?;
    let places = Places::find(global)?;
    let published = config::load(&places.config)?;
    if published.is_empty() {
        log::warn!(
            "nothing to publish: {} names no provider with \"publish\": true; `virtual-llm add` writes one",
            places.config.display()
        );
        // A service that ends before it was up counts as failed, and would be started again and again.
        notify::ready();
        return Ok(());
    }
    let hub = config::hub(global, &places)?;
    let registrar = Registrar::start(Options {
        credentials: Some(credentials(hub, global)),
        session_file: Some(places.session_file.clone()),
        providers: published.providers,
        agents: published.agents,
        timings,
    })
    .map_err(refused_start)?;
    // Not when the hub has answered: it may be away for days, and no manager waits that long.
    notify::ready();
    let control = open_control(&places);
    let answers = async {
        match &control {
            Some(server) => server.serve(&registrar).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = steer(&registrar, &places, &mut signals) => outcome,
        () = answers => Ok(()),
        () = notify::keep_alive(async || ()) => Ok(()),
    }
}

/// Serves until it ends, by a signal or by itself.
async fn steer(registrar: &Registrar, places: &Places, signals: &mut Signals) -> Outcome {
    let mut is_up = false;
    loop {
        tokio::select! {
            ended = registrar.wait() => return outcome(ended),
            ready = registrar.ready(), if !is_up => match ready {
                Ok(()) => is_up = true,
                Err(ended) => return outcome(ended),
            },
            wanted = signals.next() => match wanted {
                Wanted::Reload => reload(registrar, places).await,
                Wanted::Interrupt if !is_up => {
                    registrar.stop_now();
                    return Err(Failure::silent(Code::Interrupted));
                }
                Wanted::Interrupt | Wanted::Stop => return stop(registrar, signals).await,
            },
        }
    }
}

/// Lets what runs come to its end; a second signal does not.
async fn stop(registrar: &Registrar, signals: &mut Signals) -> Outcome {
    log::info!("stopping; a second signal stops at once");
    notify::stopping();
    registrar.stop();
    tokio::select! {
        ended = registrar.wait() => outcome(ended),
        _ = signals.stop() => {
            registrar.stop_now();
            Err(Failure::failed("stopped at once by a second signal"))
        }
    }
}

/// Reads the configuration again; a broken one changes nothing.
async fn reload(registrar: &Registrar, places: &Places) {
    match reread(places).await {
        Ok(published) => {
            let (llms, agents) = (published.providers.len(), published.agents.len());
            log::info!("configuration read again: {llms} LLMs and {agents} agents to publish");
            registrar.reload(published.providers, published.agents);
        }
        Err(failure) => {
            log::error!("the old configuration stays: {}", failure.text().unwrap_or_default());
        }
    }
}

async fn reread(places: &Places) -> Result<Published, Failure> {
    let path = places.config.clone();
    // Off the arbiter: a slow disk must not hold up a token.
    actix_rt::task::spawn_blocking(move || config::load(&path)).await.map_err(anyhow::Error::from)?
}

/// What the registrar proves itself with.
pub(crate) fn credentials(hub: Hub, global: &Global) -> Credentials {
    Credentials {
        hub_url: hub.url,
        token: hub.token,
        file: hub.file,
        allow_insecure: hub.allow_insecure,
        ca_file: global.ca_file.clone(),
    }
}

fn timings(args: &RegistrarTimings) -> Result<Timings, Failure> {
    if args.reconnect_base > args.reconnect_max {
        return Err(Failure::usage("--reconnect-base is longer than --reconnect-max"));
    }
    Ok(Timings {
        heartbeat_interval: args.heartbeat_interval,
        reconnect_base: args.reconnect_base,
        reconnect_max: args.reconnect_max,
        idle_timeout: args.idle_timeout,
        drain_timeout: args.drain_timeout,
    })
}

/// Without the socket the registrar serves all the same: only `status` and its kin do not reach it.
fn open_control(places: &Places) -> Option<Server> {
    let Some(path) = &places.socket else {
        log::warn!(
            "no control socket: the path of {} is too long and XDG_RUNTIME_DIR is not set",
            places.home.display()
        );
        return None;
    };
    Server::open(path)
        .inspect_err(|error| log::warn!("no control socket at {}: {}", path.display(), config::plain(error)))
        .ok()
}

fn refused_start(error: StartError) -> Failure {
    match error.exit_code() {
        2 => Failure::usage(error),
        _ if matches!(error, StartError::Locked { .. }) => Failure::failed(format!(
            "{error}; `virtual-llm status` shows it, and a second one needs a --home of its own"
        )),
        _ => Failure::failed(error),
    }
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Refused(reason) => {
            let next = what_next(&reason);
            Err(Failure::refused(reason + next))
        }
        Ended::Failed(reason) => Err(Failure::failed(reason)),
    }
}

/// What helps against a refusal, by the status in its text.
fn what_next(reason: &str) -> &'static str {
    let status = reason.split_once(" HTTP ").map_or("", |(_, rest)| rest.get(..3).unwrap_or(rest));
    match status {
        "401" => "; `virtual-llm login URL` writes a new token",
        "404" | "405" => {
            "; the hub is too old to know virtual LLMs, or the URL is not its own: `virtual-llm check` tells more"
        }
        "409" => "; give it another publishName, or a publisher.suffix, in the configuration",
        _ => "",
    }
}
