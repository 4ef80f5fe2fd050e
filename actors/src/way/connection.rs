//! The steps below HTTP: the connection to a proxy, its tunnel, and TLS with the hub.

use std::io;
use std::sync::Arc;

use awc::http::Uri;
use backend::http::{CertificateInfo, SeenCertificate, noting_tls_config};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::{Finding, Level};
use crate::http::{self, CONNECT_TIMEOUT, Proxy, Stream};
use crate::hub_client::HubAddress;
use crate::tls_reason::connect_reason;
use crate::{Credentials, ProviderConfig};

/// Remaining validity of a certificate, in seconds, below which its end is a warning: a week, in which automatic renewals
/// have long happened.
const SOON: i64 = 7 * 24 * 3600;

/// Connects to the hub of `credentials`, and says what each step found. The last finding is an error if a step failed. A direct
/// way without TLS has no step here.
pub async fn connection(credentials: &Credentials) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = steps(credentials, &mut findings).await {
        findings.push(Finding::error(error));
    }
    findings
}

/// Opens a tunnel to the backend of a provider at `url`, if it has a proxy.
pub async fn backend_proxy(provider: &ProviderConfig, url: &str) -> Option<Finding> {
    let proxy = provider.proxy.as_ref()?;
    let name = &provider.name;
    let uri: Uri = url.parse().ok()?;
    let (host, is_https) = (uri.host().unwrap_or_default(), uri.scheme_str() == Some("https"));
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let tls = if proxy.is_tls() { http::tls_config(None).ok() } else { None };
    let address = proxy.address();
    Some(match proxy.tunnel(tls.as_ref(), host, port).await {
        Ok(_) => Finding::ok(format!("{name}: the proxy {address} opens a tunnel to the backend")),
        Err(error) => Finding::error(format!("{name}: {error}")),
    })
}

async fn steps(credentials: &Credentials, findings: &mut Vec<Finding>) -> Result<(), String> {
    let hub = HubAddress::parse(&credentials.hub_url, credentials.allow_insecure)
        .map_err(|error| error.to_string())?;
    let proxy = credentials.proxy_in_use();
    let seen = SeenCertificate::default();
    let needs_tls = hub.is_https() || proxy.is_some_and(Proxy::is_tls);
    let tls = needs_tls.then(|| noting_tls_config(credentials.ca_file.as_deref(), &seen)).transpose();
    let tls = tls.map_err(|error| error.to_string())?;
    let way = proxy.map(|proxy| format!(" through the proxy {}", proxy.address())).unwrap_or_default();
    let failed = |error: &io::Error, seen: Option<CertificateInfo>| {
        let shown = seen.map(|seen| format!("; the certificate is {}", described(&seen))).unwrap_or_default();
        format!("cannot reach the hub at {}{way}: {}{shown}", hub.as_str(), connect_reason(error))
    };
    let stream = match proxy {
        Some(proxy) => tunnel(proxy, tls.as_ref(), &hub, &seen, findings).await?,
        None if hub.is_https() => {
            let connecting = timeout(CONNECT_TIMEOUT, http::connect(None, None, hub.host(), hub.port()));
            connecting
                .await
                .unwrap_or_else(|_| Err(late("no connection")))
                .map_err(|error| failed(&error, None))?
        }
        None => return Ok(()),
    };
    let Some(tls) = tls.filter(|_| hub.is_https()) else { return Ok(()) };
    let shaken = timeout(CONNECT_TIMEOUT, http::handshake(&tls, hub.host(), stream)).await;
    let shaken = shaken.unwrap_or_else(|_| Err(late("no TLS")));
    let certificate = seen.take();
    shaken.map_err(|error| failed(&error, certificate.clone()))?;
    let target = format!("{}:{}", hub.host(), hub.port());
    let through = if way.is_empty() { "" } else { " through the proxy" };
    findings.push(Finding::ok(format!("{target} has a valid certificate{through}")));
    findings.extend(certificate.map(|certificate| judged(&certificate, jiff::Timestamp::now())));
    Ok(())
}

async fn tunnel(
    proxy: &Proxy,
    tls: Option<&Arc<ClientConfig>>,
    hub: &HubAddress,
    seen: &SeenCertificate,
    findings: &mut Vec<Finding>,
) -> Result<Stream, String> {
    let (address, setting) = (proxy.address(), proxy.source());
    let stream = proxy.connect(tls, hub.host(), hub.port()).await;
    let certificate = seen.take();
    let stream = stream.map_err(|error| match &certificate {
        Some(certificate) => format!("{error} (its certificate is {})", described(certificate)),
        None => error.to_string(),
    })?;
    findings.push(Finding::ok(format!("the proxy {address} (of {setting}) accepts connections")));
    if let Some(certificate) = &certificate {
        let text = format!("the proxy {address} has a valid certificate, {}", described(certificate));
        findings.push(Finding::ok(text));
    }
    let stream = proxy.open(stream, hub.host(), hub.port()).await.map_err(|error| error.to_string())?;
    let credentials = if proxy.has_user() { ", with user and password" } else { "" };
    let target = format!("{}:{}", hub.host(), hub.port());
    findings.push(Finding::ok(format!("the proxy {address} opens a tunnel to {target}{credentials}")));
    Ok(stream)
}

fn late(what: &str) -> io::Error {
    io::Error::other(format!("{what} within {} s", CONNECT_TIMEOUT.as_secs()))
}

/// Names, authority and end of a certificate.
fn described(certificate: &CertificateInfo) -> String {
    let CertificateInfo { issuer, names, not_after } = certificate;
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    let end = not_after.strftime("%Y-%m-%d");
    format!("for {names}, from '{issuer}', until {end}")
}

fn judged(certificate: &CertificateInfo, now: jiff::Timestamp) -> Finding {
    let text = format!("its certificate is {}", described(certificate));
    if certificate.not_after.as_second() - now.as_second() < SOON {
        return Finding::new(Level::Warning, format!("{text}: whoever runs the hub must renew it now"));
    }
    Finding::ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_within_a_week_is_a_warning() {
        let certificate = CertificateInfo {
            issuer: "Office CA".to_owned(),
            names: vec!["hub.example".to_owned(), "10.0.0.1".to_owned()],
            not_after: "2030-01-08T00:00:00Z".parse().unwrap(),
        };
        let level = |now: &str| judged(&certificate, now.parse().unwrap());
        let early = level("2029-12-31T23:59:59Z");
        assert_eq!(early.level, Level::Ok);
        assert_eq!(
            early.text,
            "its certificate is for hub.example, 10.0.0.1, from 'Office CA', until 2030-01-08"
        );
        assert_eq!(level("2030-01-01T00:00:01Z").level, Level::Warning);
    }
}
