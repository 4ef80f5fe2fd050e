//! Connections to backends through the proxy of their provider.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use actix_rt::net::TcpStream;
use backend::http::{Dial, Transport};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;

use super::Proxy;
use crate::changes::Changes;
use crate::http::{Stream, tls_config};
use crate::news::news;

/// Opens tunnels through a provider's proxy, and logs when that fails in another way than before.
pub(crate) struct Dialer {
    proxy: Proxy,
    /// For an `https://` proxy: the system's certificates, as for backends.
    tls: Option<Arc<ClientConfig>>,
    /// Name of the provider, for the log.
    provider: String,
    logged: RefCell<Changes>,
}

impl Dialer {
    pub(crate) fn new(proxy: &Proxy, provider: &str) -> Self {
        let tls = if proxy.is_tls() { tls_config(None).ok() } else { None };
        Self { proxy: proxy.clone(), tls, provider: provider.to_owned(), logged: RefCell::default() }
    }
}

impl Dial for Dialer {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> LocalBoxFuture<'a, io::Result<Box<dyn Transport>>> {
        async move {
            match self.proxy.tunnel(self.tls.as_ref(), host, port).await {
                Ok(stream) => {
                    self.logged.borrow_mut().clear();
                    Ok(Box::new(stream) as Box<dyn Transport>)
                }
                Err(mut error) => {
                    // The address of a backend is in no log line.
                    "its backend".clone_into(&mut error.target);
                    let text = error.to_string();
                    if self.logged.borrow_mut().is_change(&text) {
                        news!(warn, "proxies of backends", &self.provider, "{}: {text}", self.provider);
                    }
                    Err(error.into())
                }
            }
        }
        .boxed_local()
    }
}

impl Transport for Stream {
    fn socket(&self) -> &TcpStream {
        Self::socket(self)
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}
