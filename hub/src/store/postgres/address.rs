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

/// Parses the address of a database: a URL `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or words as libpq reads them.
/// Errors do not quote it.
///
/// A server on another machine is spoken to over TLS only, unless the address says `sslmode=disable`.
pub(super) fn parse(text: &str, hub: &str) -> Result<Config, StoreError> {
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
    Ok(config)
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// Where the database is, for texts: hosts and name, without user and password.
pub(super) fn shown(config: &Config) -> String {
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
        let mode = |text: &str| parse(text, "a").map(|config| config.get_ssl_mode()).unwrap();
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
    fn an_error_about_an_address_does_not_quote_it() {
        for bad in ["postgres://u:s3cret@h:port/d", "postgres://u:s3cret@h/d?sslmode=s3cret", "s3cret", ""] {
            let error = parse(bad, "a").unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
