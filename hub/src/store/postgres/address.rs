//! The address of the database.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::store::StoreError;

/// Time to open a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after which a silent or unanswering connection is given up by the kernel.
const SILENCE: Duration = Duration::from_secs(10);

/// The address of a database.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// One for each of its hosts, which are tried in turn: each has its own time.
    pub(super) hosts: Vec<Config>,
    /// Where the database is, for texts: name and hosts, without user and password.
    pub(super) shown: String,
    /// The id of the hub that connects.
    pub(super) hub: String,
}

/// Parses the address of a database: a URL `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or words as libpq reads them.
/// Errors do not quote it.
///
/// A server on another machine is spoken to over TLS only, unless the address says `sslmode=disable`.
pub(super) fn parse(text: &str, hub: &str) -> Result<Address, StoreError> {
    let mut config: Config = text.trim().parse().map_err(|error: tokio_postgres::Error| {
        StoreError::Database(format!(
            "its address cannot be read: {error}; expected postgres://USER:PASSWORD@HOST:5432/DATABASE"
        ))
    })?;
    if config.get_hosts().is_empty() {
        return Err(StoreError::Database("its address names no host".into()));
    }
    if config.get_ssl_mode() == SslMode::Prefer {
        let is_remote = config.get_hosts().iter().any(|host| !is_local(host));
        config.ssl_mode(if is_remote { SslMode::Require } else { SslMode::Disable });
    }
    config
        .application_name(format!("virtual-llm hub {hub}"))
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(SILENCE)
        .tcp_user_timeout(SILENCE)
        // A standby accepts connections, but no writes.
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    let hosts = (0..config.get_hosts().len()).map(|n| with_host(&config, n)).collect();
    Ok(Address { hosts, shown: shown(&config), hub: hub.to_owned() })
}

/// A copy of `all` with its host number `n` alone.
fn with_host(all: &Config, n: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(n) {
        Some(Host::Tcp(name)) => drop(one.host(name)),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    all.get_hostaddrs().get(n).map(|address| one.hostaddr(*address));
    // One port is that of all hosts.
    all.get_ports().get(n).or(all.get_ports().first()).map(|port| one.port(*port));
    all.get_user().map(|user| one.user(user));
    all.get_password().map(|password| one.password(password));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    all.get_connect_timeout().map(|time| one.connect_timeout(*time));
    all.get_tcp_user_timeout().map(|time| one.tcp_user_timeout(*time));
    all.get_keepalives_interval().map(|time| one.keepalives_interval(time));
    all.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one.ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// See [`Address::shown`].
fn shown(config: &Config) -> String {
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let hosts: Vec<_> = config.get_hosts().iter().map(host).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{database} at {}", hosts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_another_machine_needs_tls_unless_the_address_says_otherwise() {
        let mode = |text: &str| parse(text, "a").unwrap().hosts[0].get_ssl_mode();
        for local in ["postgres://u@localhost/d", "postgres://127.0.0.2/d", "host=/run/postgresql dbname=d"] {
            assert_eq!(mode(local), SslMode::Disable, "{local}");
        }
        for remote in ["postgres://u@db.example/d", "postgres://10.0.0.1/d", "postgres://localhost,db/d"] {
            assert_eq!(mode(remote), SslMode::Require, "{remote}");
        }
        assert_eq!(mode("postgres://db.example/d?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://localhost/d?sslmode=require"), SslMode::Require);
    }

    #[test]
    fn each_host_of_an_address_has_the_rest_of_it() {
        let rest = "user=u password=p dbname=d options='-c x=y' sslmode=require channel_binding=require";
        let whole =
            parse(&format!("host=h,/run,i hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 port=1,2,3 {rest}"), "a");
        let whole = whole.unwrap();
        assert_eq!((whole.hosts.len(), &*whole.shown), (3, "d at h, /run, i"));
        for (n, host) in ["h", "/run", "i"].into_iter().enumerate() {
            let number = n + 1;
            let text = format!("host={host} hostaddr=10.0.0.{number} port={number} {rest}");
            let alone = parse(&text, "a").unwrap();
            assert_eq!(whole.hosts[n], alone.hosts[0], "{text}");
        }
        let same_port = parse("postgres://u@h,i:7/d", "a");
        assert_eq!(same_port.unwrap().hosts[1].get_ports(), [7]);
    }

    #[test]
    fn an_error_about_an_address_does_not_quote_it() {
        for bad in ["postgres://u:s3cret@h:port/d", "postgres://u:s3cret@h/d?sslmode=s3cret", "s3cret", ""] {
            let error = parse(bad, "a").unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
