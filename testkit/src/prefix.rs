//! A reverse proxy that serves a server below a path prefix and strips the prefix, like nginx's `proxy_pass` with a slash.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use awc::http::{Method, header};
use futures_util::StreamExt;
use parking_lot::Mutex;

use crate::connection::{Connection, answer};
use crate::peer::Peer;

/// A running proxy.
pub struct PrefixProxy {
    peer: Peer,
    outside_prefix: Rc<Mutex<Vec<String>>>,
}

/// Prefix and target of the proxy, and the requests outside the prefix.
struct Route {
    prefix: &'static str,
    target: String,
    client: awc::Client,
    outside_prefix: Rc<Mutex<Vec<String>>>,
}

impl PrefixProxy {
    /// Starts a proxy that serves `target` below `prefix`, which begins with a slash and does not end with one.
    pub fn start(prefix: &'static str, target: &str) -> Self {
        let outside_prefix = Rc::<Mutex<Vec<String>>>::default();
        let client = awc::Client::builder().timeout(Duration::from_mins(1)).finish();
        let route =
            Route { prefix, target: target.to_owned(), client, outside_prefix: Rc::clone(&outside_prefix) };
        let peer = Peer::start(async move |mut connection| {
            loop {
                route.forward(&mut connection).await?;
            }
        });
        Self { peer, outside_prefix }
    }

    /// URL of the proxy, without the prefix.
    pub fn url(&self) -> String {
        self.peer.url()
    }

    /// Requested paths that are outside the prefix.
    pub fn outside_prefix(&self) -> Vec<String> {
        self.outside_prefix.lock().clone()
    }
}

impl Route {
    async fn forward(&self, connection: &mut Connection) -> io::Result<()> {
        let request = connection.request().await?;
        let below = request.target.strip_prefix(self.prefix).filter(|path| path.starts_with('/'));
        let Some(path) = below else {
            self.outside_prefix.lock().push(request.target);
            return connection.write(answer(404, "", "")).await;
        };
        let method = Method::from_bytes(request.method.as_bytes()).unwrap();
        let mut onward = self.client.request(method, format!("{}{path}", self.target)).no_decompress();
        for (name, value) in &request.headers {
            if !["host", "connection", "content-length", "transfer-encoding"].contains(&name.as_str()) {
                onward = onward.append_header((name.as_str(), value.as_str()));
            }
        }
        let Ok(mut response) = onward.send_body(request.body).await else {
            return connection.write(answer(502, "", "")).await;
        };
        let status = response.status().as_u16();
        // An answer without a body has no chunks.
        let framing = match status {
            204 | 304 => "",
            _ => "transfer-encoding: chunked\r\n",
        };
        let mut head = format!("HTTP/1.1 {status} X\r\n{framing}");
        for (name, value) in response.headers() {
            if ![header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH].contains(name) {
                let value = String::from_utf8_lossy(value.as_bytes());
                head.extend([name.as_str(), ": ", &value, "\r\n"]);
            }
        }
        connection.write(head + "\r\n").await?;
        while let Some(piece) = response.next().await {
            let piece = piece.map_err(io::Error::other)?;
            let size = format!("{:x}\r\n", piece.len());
            connection.write([size.as_bytes(), &piece, b"\r\n"].concat()).await?;
        }
        if framing.is_empty() { Ok(()) } else { connection.write("0\r\n\r\n").await }
    }
}
