//! The hub as an HTTP client, for public rows: HTTP/1.1, no redirects, no compression, Nagle's algorithm off.

mod nodelay;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use actix_tls::connect::Connector as TcpConnector;
use awc::{Client, Connector};
use rustls::{ClientConfig, RootCertStore};

use nodelay::NoDelay;

/// Longest look-up and connect, and again for the TLS handshake: two lost SYNs (1 s and 3 s) fit in.
const CONNECT: Duration = Duration::from_secs(10);
/// A pooled connection idle for longer is not used again: servers close theirs after 5 s and more.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

thread_local! {
    // A client belongs to its thread; made when first needed, for most hubs have no public row.
    static PLAIN: OnceCell<Client> = const { OnceCell::new() };
    static SECURE: OnceCell<Client> = const { OnceCell::new() };
}

/// This thread's client for `url`. Requests have no time limit of their own: who sends one sets it.
pub(crate) fn client(url: &str) -> Result<Client, String> {
    if !url.starts_with("https://") {
        return Ok(PLAIN.with(|cell| cell.get_or_init(|| build(None)).clone()));
    }
    SECURE.with(|cell| {
        if let Some(client) = cell.get() {
            return Ok(client.clone());
        }
        let client = build(Some(tls_config()?));
        Ok(cell.get_or_init(|| client).clone())
    })
}

fn build(tls: Option<Arc<ClientConfig>>) -> Client {
    let connector = Connector::new()
        .connector(NoDelay { tcp: TcpConnector::default().service() })
        .timeout(CONNECT)
        .handshake_timeout(CONNECT)
        .conn_keep_alive(KEEP_ALIVE)
        // Open streams count against awc's limit, and waiting for one against the timeout: callers are bounded elsewhere.
        .limit(0);
    let connector = match tls {
        Some(config) => connector.rustls_0_23(config),
        None => connector,
    };
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .add_default_header(("user-agent", concat!("virtual-llm/", env!("CARGO_PKG_VERSION"))))
        .finish()
}

/// The system's roots, HTTP/1.1 only.
fn tls_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // One odd file among many is common; those that can be read serve.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
