//! `publish`: runs the registrar.

mod start;

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use actors::{Ended, Options, Registrar, StartError, Timings, Transport, status::ChannelState};
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{check::doubtful_programs, hub_findings::unresolved_agents};
use crate::{
    cli::{Global, PublishArgs, RegistrarTimings, TransportArg},
    client::HubClient,
    config::{self, Fingerprints, Paths, Published},
    control::Server,
    exit::{Code, Failure, Outcome},
    notify, output,
    signals::{Signals, Wanted},
};

/// Time-out of the hub's list of LLMs. Without it the registrar starts unchecked.
const HUB_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the registrar. SPEC.md section 6 (Start) defines the order of the checks.
pub(crate) async fn run(global: &Global, args: &PublishArgs, mut signals: Signals) -> Outcome {
    let timings = timings(&args.timings)?;
    let paths = Paths::find(global)?;
    let mut published = config::load(&paths.config)?;
    let mut secret_variables = BTreeSet::new();
    published.hide_variables(&mut secret_variables);
    check_skipped(&published, &paths)?;
    if published.is_empty() {
        log::warn!(
            "nothing to publish: {} names no provider with \"publish\": true; `virtual-llm add` writes one",
            paths.config.display()
        );
        // systemd restarts a service that ends before it was ready.
        notify::ready();
        return Ok(());
    }
    for warning in doubtful_programs(&published.providers) {
        log::warn!("{}", output::printable(&warning));
    }
    let credentials = config::credentials(global, &paths)?;
    check_agents(&published, global, &paths).await?;
    let fingerprints = published.fingerprints.clone();
    let providers = published.providers.clone();
    let through = credentials.proxy_in_use().map(|proxy| format!(" through the proxy {}", proxy.address()));
    log::info!(
        "publishing to {}{}: {}",
        output::printable(&credentials.hub_url),
        through.unwrap_or_default(),
        start::summary(&published)
    );
    let registrar = Registrar::start(Options {
        credentials: Some(credentials),
        session_file: Some(paths.session_file.clone()),
        providers: published.providers,
        agents: published.agents,
        timings,
        transport: match args.transport {
            TransportArg::Auto => Transport::Auto,
            TransportArg::Link => Transport::Link,
            TransportArg::Classic => Transport::Classic,
        },
    })
    .map_err(refused_start)?;
    // Service managers do not wait for the hub, which may be unreachable for days.
    notify::ready();
    // Concurrently: a slow backend must not delay the registrar.
    actix_rt::spawn(async move { start::check_backends(&providers).await });
    let control = open_control(&paths);
    let current = Mutex::new(Current { fingerprints, secret_variables });
    let running = Rc::new(Running { registrar, paths, global: global.clone(), current });
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
        outcome = handle_signals(&running, &mut signals) => outcome,
        () = answers => Ok(()),
        () = notify::keep_alive(async || ()) => Ok(()),
    }
}

/// The registrar and the state that a reload needs.
struct Running {
    registrar: Registrar,
    paths: Paths,
    global: Global,
    /// Locked during a reload.
    current: Mutex<Current>,
}

/// What is kept of the configurations that were read.
struct Current {
    /// Fingerprints of the current one.
    fingerprints: Fingerprints,
    /// Environment variables that held secrets in any of them.
    secret_variables: BTreeSet<String>,
}

impl Running {
    /// Reads the configuration again and returns the changes. An invalid configuration changes nothing.
    async fn reload(&self) -> Result<Value, String> {
        let mut current = self.current.lock().await;
        let mut published = match self.reread().await {
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
        let programs = doubtful_programs(&published.providers);
        for warning in &programs {
            log::warn!("{}", output::printable(warning));
        }
        published.hide_variables(&mut current.secret_variables);
        let mut answer = current.fingerprints.changes(&published.fingerprints);
        answer["warnings"] = json!(published.warnings.iter().chain(&programs).collect::<Vec<_>>());
        current.fingerprints = published.fingerprints;
        let providers = published.providers.clone();
        self.registrar.reload(published.providers, published.agents);
        actix_rt::spawn(async move { start::check_backends(&providers).await });
        Ok(answer)
    }

    async fn reread(&self) -> Result<Published, Failure> {
        let path = self.paths.config.clone();
        // Not on the arbiter, where a slow disk would delay tokens.
        let reading = actix_rt::task::spawn_blocking(move || config::load(&path));
        let published = reading.await.map_err(anyhow::Error::from)??;
        check_skipped(&published, &self.paths)?;
        check_agents(&published, &self.global, &self.paths).await?;
        Ok(published)
    }
}

/// Fails if all providers are skipped. A configuration without providers is valid.
fn check_skipped(published: &Published, paths: &Paths) -> Outcome {
    match published.skipped.first() {
        Some(first) if published.is_empty() => Err(Failure::usage(format!(
            "{}: no provider that is to be published can be used: {first}",
            paths.config.display()
        ))),
        _ => Ok(()),
    }
}

/// Checks at the hub the agents whose LLM is not published here. If the hub does not answer, they are only warned of.
async fn check_agents(published: &Published, global: &Global, paths: &Paths) -> Outcome {
    if published.unresolved.is_empty() {
        return Ok(());
    }
    let hub = HubClient::new(config::credentials(global, paths)?)?;
    let file = paths.config.display();
    let llms = tokio::time::timeout(HUB_TIMEOUT, hub.llms()).await.ok().and_then(Result::ok);
    let report = unresolved_agents(&published.unresolved, llms.as_ref());
    if let Some(first) = report.errors.first() {
        return Err(Failure::usage(format!("{file}: {first}")));
    }
    for warning in &report.warnings {
        log::warn!("{file}: {warning}");
    }
    Ok(())
}

/// Handles signals until the registrar ends.
async fn handle_signals(running: &Running, signals: &mut Signals) -> Outcome {
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
                    // `reload` logs its result.
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

/// Stops after the running tasks, or at once at a second signal.
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

/// Opens the control socket. Without it the registrar works, but `status` and similar commands do not reach it.
fn open_control(paths: &Paths) -> Option<Server> {
    let Some(path) = &paths.socket else {
        log::warn!(
            "no control socket: the path of {} is too long and XDG_RUNTIME_DIR is not set",
            paths.home.display()
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

/// Advice after a refusal, by the status in its text.
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
