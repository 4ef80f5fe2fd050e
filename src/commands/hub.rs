//! `hub`: runs the hub.

use std::{
    env,
    io::{self, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
};

use actors::Secret;
use hub::{
    AdminToken, ClusterOptions, DataDir, Hub, HubError, HubOptions, HubTimings, Limits, MachineOptions,
    NatsOptions, Origins, PoolPolicy, Proxies, TlsFiles, Transferred,
};
use own_files::OwnFile;
use tokio::net::TcpSocket;

use crate::{
    cli::{HubArgs, HubCommand, PoolsPolicy},
    exit::{Failure, Outcome},
    notify,
    signals::Signals,
};

/// Environment variable with an admin token that replaces the stored one while it is set.
const ADMIN_TOKEN: &str = "VIRTUAL_LLM_ADMIN_TOKEN";

/// Longest file with the database's address or credentials, in bytes: a JWT with many permissions has some kilobytes.
const MAX_SECRET: u64 = 32 << 10;

/// Serves until a signal. A second signal ends running calls.
pub(crate) async fn run(args: HubArgs, mut signals: Signals) -> Outcome {
    if let Some(HubCommand::MigrateStore { from, cluster, database_url_file }) = &args.command {
        return migrate_store(from, cluster, database_url_file).await;
    }
    let public = args.public_url.clone();
    let mut running = Hub::start(options(args)?).await.map_err(refused_start)?;
    announce(running.admin_token());
    let addr = running.addr();
    if addr.ip().is_unspecified() {
        log::info!("the hub listens on {} and every other address of this machine", running.url());
    } else {
        log::info!("the hub listens on {}", running.url());
    }
    if !addr.ip().is_loopback() && running.url().starts_with("http://") {
        log::warn!(
            "others can reach {addr} and nothing there is encrypted: give --tls-cert and --tls-key, \
             or put a TLS proxy in front and listen on 127.0.0.1"
        );
    }
    let _reserved = reserve_ipv6_localhost(addr);
    announce_public(public.as_deref());
    notify::ready();
    let liveness = running.liveness();
    let outcome = tokio::select! {
        _ = signals.stop() => Ok(()),
        () = running.crashed() => Err(Failure::failed("a part of the hub crashed; the log says where")),
        () = notify::keep_alive(async || liveness.responds().await) => Ok(()),
    };
    notify::stopping();
    log::info!("stopping: running calls have 20 s; a second signal stops at once");
    tokio::select! {
        () = running.stop() => outcome,
        _ = signals.stop() => Err(Failure::failed("stopped at once by a second signal")),
    }
}

/// The id under which the records of another hub are written.
const MIGRATING: &str = "migrate";

/// Copies a hub's records to the database of a cluster.
async fn migrate_store(from: &Path, cluster: &str, file: &Path) -> Outcome {
    let (cluster, hub_id) = (cluster.to_owned(), MIGRATING.to_owned());
    let to = ClusterOptions { cluster, hub_id, database_url: database_url(file)?, nats: None };
    let moved = hub::transfer(from, &to).await.map_err(Failure::failed)?;
    let Transferred { llms, agents, sessions, names, aliases, tokens, .. } = moved;
    let Transferred { open_tasks, ended_tasks, audit_rows, usage_sums, limits, .. } = moved;
    crate::output::line(format_args!(
        "moved {llms} LLMs, {agents} agents, {names} names, {aliases} aliases, {sessions} sessions, {tokens} tokens, \
         {open_tasks} open tasks, {ended_tasks} ended tasks, {audit_rows} audit rows, {usage_sums} sums of usage, \
         {limits} limits of users and tokens"
    ))
}

fn options(args: HubArgs) -> Result<HubOptions, Failure> {
    let cluster = match (args.cluster, args.hub_id, args.database_url_file) {
        (Some(cluster), Some(hub_id), Some(file)) => {
            let credentials = args.nats_creds.as_deref().map(nats_credentials).transpose()?;
            let nats = args.nats_url.map(|url| NatsOptions { url, credentials });
            Some(ClusterOptions { cluster, hub_id, database_url: database_url(&file)?, nats })
        }
        _ => None,
    };
    Ok(HubOptions {
        listen: listen(&args.listen)?,
        public_url: args.public_url,
        data: if args.in_memory { DataDir::Memory } else { DataDir::Path(data_dir(args.data_dir)?) },
        cluster,
        admin_token: env::var_os(ADMIN_TOKEN).map(|token| token.to_string_lossy().into_owned()),
        tls: args.tls_cert.zip(args.tls_key).map(|(cert, key)| TlsFiles { cert, key }),
        pools: match args.pools {
            PoolsPolicy::Ask => PoolPolicy::Ask,
            PoolsPolicy::Members => PoolPolicy::Members,
            PoolsPolicy::Owner => PoolPolicy::Owner,
        },
        cors_origins: cors_origins(&args.cors_origin)?,
        limits: Limits { disk: args.disk_per_user, audit_rows: args.audit_rows, ..Limits::default() },
        machine: MachineOptions {
            connections_per_address: Some(args.max_connections_per_address).filter(|most| *most > 0),
            max_memory: args.max_memory,
            trusted_proxies: trusted_proxies(&args.trusted_proxy)?,
        },
        timings: HubTimings {
            heartbeat_timeout: args.timings.heartbeat_timeout,
            inactive_retention: args.timings.inactive_retention,
            name_retention: args.timings.name_retention,
            sweep_interval: args.timings.sweep_interval,
            ping_interval: args.timings.ping_interval,
            keepalive_interval: args.timings.keepalive_interval,
            reattach_grace: args.timings.reattach_grace,
            queue_timeout: args.timings.queue_timeout,
            task_retention: args.timings.task_retention,
            audit_retention: args.timings.audit_retention,
            usage_retention: std::time::Duration::from_hours(24 * u64::from(args.timings.usage_days)),
            wait_timeout: args.timings.wait_timeout,
            stream_idle_timeout: args.timings.stream_idle_timeout,
        },
    })
}

/// Parses an address or a host name with a port, such as `localhost:8787`.
fn listen(given: &str) -> Result<SocketAddr, Failure> {
    given.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(|| {
        Failure::usage(format!("--listen {given}: expected an address and a port, such as 127.0.0.1:8787"))
    })
}

/// Reads the file with the database's address, which holds a password.
fn database_url(path: &Path) -> Result<Secret, Failure> {
    let text = secret_file("--database-url-file", path, "the database's password")?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// Reads a file with credentials for NATS.
fn nats_credentials(path: &Path) -> Result<Secret, Failure> {
    let text = Secret::new(secret_file("--nats-creds", path, "the hub's credentials for NATS")?);
    hub::check_credentials(&text)
        .map_err(|error| Failure::usage(format!("--nats-creds {}: {error}", path.display())))?;
    Ok(text)
}

/// Reads a file that holds a secret, and warns if everybody can.
fn secret_file(option: &str, path: &Path, secret: &str) -> Result<String, Failure> {
    let unusable = |error: io::Error| {
        Failure::usage(format!("{option} {}: {}", path.display(), own_files::plain(&error)))
    };
    let file = OwnFile::open_given(path).and_then(OwnFile::trusted).map_err(unusable)?;
    if file.metadata().is_file() && file.mode() & 0o004 != 0 {
        log::warn!(
            "everybody on this machine can read {0} with {secret}: run `chmod o-r {0}`",
            path.display()
        );
    }
    file.read_text(MAX_SECRET).map_err(unusable)
}

fn cors_origins(given: &[String]) -> Result<Origins, Failure> {
    let mut origins = Origins::default();
    for origin in given {
        origins.allow(origin).map_err(|error| Failure::usage(format!("--cors-origin {origin}: {error}")))?;
    }
    Ok(origins)
}

fn trusted_proxies(given: &[String]) -> Result<Proxies, Failure> {
    let mut proxies = Proxies::default();
    for proxy in given {
        proxies.trust(proxy).map_err(|error| Failure::usage(format!("--trusted-proxy {proxy}: {error}")))?;
    }
    Ok(proxies)
}

/// The data directory: the given one, else the one of the XDG base directory specification.
fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .or_else(|| absolute("XDG_DATA_HOME").map(|data| data.join("virtual-llm")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share/virtual-llm")))
        .ok_or_else(|| {
            Failure::usage(
                "neither XDG_DATA_HOME nor HOME is an absolute path: choose a folder with --data-dir",
            )
        })
}

fn refused_start(error: HubError) -> Failure {
    match error {
        HubError::Tls(..) | HubError::AdminToken(..) => Failure::usage(error),
        _ => Failure::failed(error),
    }
}

/// Binds `[::1]` beside 127.0.0.1, so that no other user of this machine can listen there for tokens: `localhost` resolves
/// to it first. The socket does not listen: connections are refused, and clients try 127.0.0.1 next.
fn reserve_ipv6_localhost(addr: SocketAddr) -> Option<TcpSocket> {
    if addr.ip() != Ipv4Addr::LOCALHOST {
        return None;
    }
    // This fails on a machine without IPv6, which has no `[::1]` to reserve.
    let socket = TcpSocket::new_v6().ok()?;
    match socket.bind((Ipv6Addr::LOCALHOST, addr.port()).into()) {
        Ok(()) => Some(socket),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            log::warn!(
                "another program has [::1]:{0}: `localhost:{0}` may lead there; use 127.0.0.1:{0}",
                addr.port()
            );
            None
        }
        Err(_) => None,
    }
}

/// Logs the public URL.
fn announce_public(url: Option<&str>) {
    let Some(url) = url else { return };
    log::info!("others reach the hub at {url}");
    if crate::config::url::is_plain_and_remote(url) {
        log::warn!(
            "{url} is plain http: tokens and prompts can be read on their way; put TLS in front of it"
        );
    }
}

/// Logs where the admin token is. A hub that stores nothing prints the token on standard error, not in the log.
fn announce(token: &AdminToken) {
    match token {
        AdminToken::Environment => log::info!("admin token: the one in {ADMIN_TOKEN}"),
        AdminToken::Written(file) => log::info!("admin token: made one, in {}", file.display()),
        AdminToken::Kept(file) => log::info!("admin token: in {}", file.display()),
        AdminToken::Removed(file) => log::info!(
            "admin token: the one made earlier, which is not in {} any more; write another one there to replace it",
            file.display()
        ),
        AdminToken::Shown(secret) => crate::output::note(format_args!("admin token: {}", secret.reveal())),
    }
}
