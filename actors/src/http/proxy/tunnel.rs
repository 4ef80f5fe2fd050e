//! A tunnel through a proxy: TCP, TLS to an `https://` proxy, and `CONNECT`.
//!
//! hyper-util's `Tunnel` is not used: its error does not contain the proxy's status.

use std::io;
use std::sync::Arc;

use actix_rt::net::TcpStream;
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Proxy, ProxyError, ProxyFault, authority, unbracketed};
use crate::http::{CONNECT_TIMEOUT, Stream, USER_AGENT, handshake};
use crate::tls_reason::proxy_connect_reason;

/// Longest head of an answer to `CONNECT`, in bytes: that of hyper-util.
const MAX_HEAD: usize = 8 << 10;
/// Most headers of that answer: those of hyper.
const MAX_HEADERS: usize = 100;

impl Proxy {
    /// Opens a tunnel to `host:port`. `tls` is for an `https://` proxy.
    pub async fn tunnel(
        &self,
        tls: Option<&Arc<ClientConfig>>,
        host: &str,
        port: u16,
    ) -> Result<Stream, ProxyError> {
        let stream = self.connect(tls, host, port).await?;
        self.open(stream, host, port).await
    }

    /// Connects to the proxy itself: the first step of a tunnel to `host:port`.
    pub async fn connect(
        &self,
        tls: Option<&Arc<ClientConfig>>,
        host: &str,
        port: u16,
    ) -> Result<Stream, ProxyError> {
        let error =
            |reason: String| ProxyError::new(self, &target(host, port), ProxyFault::Unconnected { reason });
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port))).await;
        let socket = connecting
            .map_err(|_| error(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|io| error(proxy_connect_reason(&io)))?;
        // Nagle's algorithm would delay each token until the delayed ACK of the peer, 40 ms.
        let _ = socket.set_nodelay(true);
        let tls = match tls {
            Some(tls) if self.is_tls => tls,
            None if self.is_tls => return Err(error("there is no TLS configuration".to_owned())),
            _ => return Ok(Stream::Tcp(socket)),
        };
        let shaken = timeout(CONNECT_TIMEOUT, handshake(tls, &self.host, socket)).await;
        let stream = shaken
            .map_err(|_| error(format!("no TLS within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|io| error(proxy_connect_reason(&io)))?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// Sends `CONNECT` and reads its answer: the second step.
    pub async fn open(&self, stream: Stream, host: &str, port: u16) -> Result<Stream, ProxyError> {
        let opened = timeout(CONNECT_TIMEOUT, self.ask(stream, host, port)).await;
        let seconds = CONNECT_TIMEOUT.as_secs();
        opened
            .unwrap_or(Err(ProxyFault::Silent { seconds }))
            .map_err(|fault| ProxyError::new(self, &target(host, port), fault))
    }

    async fn ask(&self, mut stream: Stream, host: &str, port: u16) -> Result<Stream, ProxyFault> {
        let target = target(host, port);
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {USER_AGENT}\r\n");
        if let Some(authorization) = &self.authorization {
            head.extend(["Proxy-Authorization: ", authorization.reveal(), "\r\n"]);
        }
        head += "\r\n";
        let closed = |_: io::Error| ProxyFault::Closed;
        stream.write_all(head.as_bytes()).await.map_err(closed)?;
        stream.flush().await.map_err(closed)?;
        let mut answer = Vec::with_capacity(1 << 10);
        loop {
            if stream.read_buf(&mut answer).await.map_err(closed)? == 0 {
                return Err(ProxyFault::Closed);
            }
            match self.accepted(&answer)? {
                Some(length) if length == answer.len() => return Ok(stream),
                // The hub does not speak first, in TLS or in HTTP.
                Some(_) => return Err(ProxyFault::NotHttp),
                None if answer.len() > MAX_HEAD => return Err(ProxyFault::NotHttp),
                None => {}
            }
        }
    }

    /// The length of the head of an answer that opens the tunnel; `None` while it is incomplete.
    fn accepted(&self, answer: &[u8]) -> Result<Option<usize>, ProxyFault> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(answer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(ProxyFault::NotHttp),
        };
        match response.code.unwrap_or_default() {
            200..=299 => Ok(Some(length)),
            407 => {
                let mut offers = response
                    .headers
                    .iter()
                    .filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"));
                let is_basic = |header: &httparse::Header<'_>| {
                    String::from_utf8_lossy(header.value).to_ascii_lowercase().contains("basic")
                };
                let accepts_basic = offers.clone().next().is_none() || offers.any(is_basic);
                Err(ProxyFault::Unauthorized { has_user: self.authorization.is_some(), accepts_basic })
            }
            status => Err(ProxyFault::Status { status }),
        }
    }
}

fn target(host: &str, port: u16) -> String {
    authority(unbracketed(host), port)
}
