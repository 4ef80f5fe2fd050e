//! `publish`: the registrar.

mod start;

use std::{rc::Rc, time::Duration};

use actors::{Credentials, Ended, Options, Registrar, StartError, Timings, status::ChannelState};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::agents;
use crate::{
    cli::{Global, PublishArgs, RegistrarTimings},
    client::HubClient,
    config::{self, Hub, Marks, Places, Published},
    control::Server,
    exit::{Code, Failure, Outcome},
    notify, output,
    signals::{Signals, Wanted},
};

/// How long the hub has to say which LLMs it has, before the registrar starts without knowing.
const HUB_LOOK: Duration = Duration::from_secs(2);

/// Runs it. The order of the checks is the contract's (SPEC.md section 6, Start).
pub(crate) async fn run(global: &Global, args: &PublishArgs, mut signals: Signals) -> Outcome {
    let timings = timings(&args.timings)?;
    let places = Places::find(global)?;
    let published = config::load(&places.config)?;
    refuse_nothing_valid(&published, &places)?;
    if published.is_empty() {
        log::warn!(
            "nothing to publish: {} names no provider with \"publish\": true; `virtual-llm add` writes one",
            places.config.display()
        );
        // A service that ends before it was up counts as failed, and would be started again and again.
        notify::ready();
        return Ok(());
    }
    for warning in super::check::doubtful_programs(&published.providers) {
        log::warn!("{}", output::printable(&warning));
    }
    let hub = config::hub(global, &places)?;
    let url = hub.url.clone();
    refuse_agents_without_llm(&published, global, &places).await?;
    let marks = published.marks.clone();
    let providers = published.providers.clone();
    log::info!("publishing to {}: {}", output::printable(&url), start::summary(&published));
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
    // Beside the registrar: a backend that is slow to answer delays nothing.
    actix_rt::spawn(async move { start::look_at_backends(&providers).await });
    let control = open_control(&places);
    let running = Rc::new(Running { registrar, places, global: global.clone(), marks: Mutex::new(marks) });
    let reload = {
        let running = Rc::clone(&running);
        move || -> LocalBoxFuture<'static, Result<Value, String>> {
            let running = Rc::clone(&running);
            Box::pin(async move { running.reload().await })
        }
    };
    let answers = async {
        match &control {
            Some(server) => server.serve(&running.registrar, Rc::new(reload)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        outcome = steer(&running, &mut signals) => outcome,
        () = answers => Ok(()),
        () = notify::keep_alive(async || ()) => Ok(()),
    }
}

/// A registrar and what it publishes.
struct Running {
    registrar: Registrar,
    places: Places,
    global: Global,
    /// Of the configuration that is in force. One reload at a time.
    marks: Mutex<Marks>,
}

impl Running {
    /// Reads the configuration again; says what changed. A broken one changes nothing.
    async fn reload(&self) -> Result<Value, String> {
        let mut marks = self.marks.lock().await;
        let published = match self.reread().await {
            Ok(published) => published,
            Err(failure) => {
                let why = failure.text().unwrap_or_default().to_owned();
                log::error!("the old configuration stays: {why}");
                return Err(format!("the old configuration stays: {why}"));
            }
        };
        let status = self.registrar.status().await;
        if status.is_none_or(|status| status.channel.state == ChannelState::Draining) {
            return Err("the registrar is stopping".to_owned());
        }
        let (llms, agents) = (published.providers.len(), published.agents.len());
        log::info!("configuration read again: {llms} LLMs and {agents} agents to publish");
        let programs = super::check::doubtful_programs(&published.providers);
        for warning in &programs {
            log::warn!("{}", output::printable(warning));
        }
        let mut answer = marks.changes(&published.marks);
        answer["warnings"] = json!(published.warnings.iter().chain(&programs).collect::<Vec<_>>());
        *marks = published.marks;
        let providers = published.providers.clone();
        self.registrar.reload(published.providers, published.agents);
        actix_rt::spawn(async move { start::look_at_backends(&providers).await });
        Ok(answer)
    }

    async fn reread(&self) -> Result<Published, Failure> {
        let path = self.places.config.clone();
        // Off the arbiter: a slow disk must not hold up a token.
        let reading = actix_rt::task::spawn_blocking(move || config::load(&path));
        let published = reading.await.map_err(anyhow::Error::from)??;
        refuse_nothing_valid(&published, &self.places)?;
        refuse_agents_without_llm(&published, &self.global, &self.places).await?;
        Ok(published)
    }
}

/// Providers that are all skipped are a mistake; none at all is not.
fn refuse_nothing_valid(published: &Published, places: &Places) -> Outcome {
    match published.skipped.first() {
        Some(first) if published.is_empty() => Err(Failure::usage(format!(
            "{}: no provider that is to be published can be used: {first}",
            places.config.display()
        ))),
        _ => Ok(()),
    }
}

/// An agent over an LLM that is not published here is asked for at the hub; a hub that is away is no reason to wait.
async fn refuse_agents_without_llm(published: &Published, global: &Global, places: &Places) -> Outcome {
    if published.elsewhere.is_empty() {
        return Ok(());
    }
    let hub = HubClient::new(config::hub(global, places)?, global.ca_file.as_deref())?;
    let file = places.config.display();
    if let Ok(Ok(llms)) = tokio::time::timeout(HUB_LOOK, hub.llms()).await {
        if let Some(first) = agents::without_llm(&published.elsewhere, &llms).first() {
            return Err(Failure::usage(format!("{file}: {first}")));
        }
        for finding in agents::visible_through(&published.elsewhere, &llms) {
            log::warn!("{file}: {finding}");
        }
        return Ok(());
    }
    for agent in &published.elsewhere {
        log::warn!("{file}: {}", agents::unchecked(agent));
    }
    Ok(())
}

/// Serves until it ends, by a signal or by itself.
async fn steer(running: &Running, signals: &mut Signals) -> Outcome {
    let registrar = &running.registrar;
    let mut is_up = false;
    loop {
        tokio::select! {
            ended = registrar.wait() => return outcome(ended),
            ready = registrar.ready(), if !is_up => match ready {
                Ok(()) => is_up = true,
                Err(ended) => return outcome(ended),
            },
            wanted = signals.next() => match wanted {
                Wanted::Reload => {
                    // Logged where it was done, or not.
                    let _ = running.reload().await;
                }
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
