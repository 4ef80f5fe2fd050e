//! The way through a proxy, step by step: for `check`.

use std::{io, time::Duration};

use actix_web::http::Uri;
use actors::{
    Credentials,
    http::{self, CONNECT_TIMEOUT, Proxy},
};
use tokio::time::timeout;

use super::error::io_reason;

/// Connects to the proxy, opens a tunnel to the hub, and makes the hub's TLS handshake. Returns a text for each step that
/// was done, and the error of the one that failed. Without a proxy there is no step.
pub(crate) async fn proxy_steps(credentials: &Credentials) -> (Vec<String>, Result<(), String>) {
    let mut done = Vec::new();
    let Some(proxy) = credentials.proxy_in_use() else { return (done, Ok(())) };
    let outcome = steps(credentials, proxy, &mut done).await;
    (done, outcome)
}

async fn steps(credentials: &Credentials, proxy: &Proxy, done: &mut Vec<String>) -> Result<(), String> {
    let uri: Uri = credentials.hub_url.parse().map_err(|_| "the hub's URL is invalid".to_owned())?;
    let is_https = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let needs_tls = is_https || proxy.is_tls();
    let tls = needs_tls.then(|| http::tls_config(credentials.ca_file.as_deref())).transpose();
    let tls = tls.map_err(|error| error.to_string())?;
    let (address, setting) = (proxy.address(), proxy.source());
    let stream = proxy.connect(tls.as_ref(), host, port).await.map_err(|error| error.to_string())?;
    done.push(format!("the proxy {address} (of {setting}) accepts connections"));
    let tunnel = proxy.open(stream, host, port).await.map_err(|error| error.to_string())?;
    done.push(format!("the proxy {address} opens a tunnel to {host}:{port}"));
    let Some(tls) = tls.filter(|_| is_https) else { return Ok(()) };
    match timeout(CONNECT_TIMEOUT, http::handshake(&tls, host, tunnel)).await {
        Ok(Ok(_)) => {
            done.push(format!("{host}:{port} has a valid certificate through the proxy"));
            Ok(())
        }
        Ok(Err(error)) => Err(failed(&credentials.hub_url, &address, &error)),
        Err(_) => Err(failed(&credentials.hub_url, &address, &no_tls(CONNECT_TIMEOUT))),
    }
}

fn no_tls(limit: Duration) -> io::Error {
    io::Error::other(format!("no TLS within {} s", limit.as_secs()))
}

fn failed(url: &str, address: &str, error: &io::Error) -> String {
    format!("cannot reach the hub at {url} through the proxy {address}: {}", io_reason(error))
}
