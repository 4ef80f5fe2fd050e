//! A caller as applications have it: an HTTP client with kept connections. Direct and relayed calls use the same one.

use std::time::Duration;

use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::StreamExt;

/// Where to call, and how.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub path: &'static str,
    pub token: String,
}

pub struct Caller {
    client: Client,
    url: String,
    token: String,
}

impl Caller {
    pub fn new(target: &Target) -> Self {
        let url = format!("http://127.0.0.1:{}{}", target.port, target.path);
        let client = Client::builder().timeout(Duration::from_mins(1)).disable_redirects().finish();
        Self { client, url, token: target.token.clone() }
    }

    fn request(&self) -> ClientRequest {
        self.client.post(&self.url).bearer_auth(&self.token).content_type("application/json").no_decompress()
    }

    /// One whole answer; gives its status.
    pub async fn whole(&self, body: &'static str) -> u16 {
        let mut response = self.request().send_body(body).await.unwrap();
        response.body().await.unwrap();
        response.status().as_u16()
    }

    /// One stream to its end mark, in pieces as they come.
    pub async fn stream(&self, body: String, mut saw: impl FnMut(&Bytes)) {
        let mut response = self.request().send_body(body).await.unwrap();
        let mut done = false;
        while let Some(piece) = response.next().await {
            let piece = piece.unwrap();
            done |= memchr::memmem::find(&piece, b"[DONE]").is_some();
            saw(&piece);
        }
        assert!(done, "a stream without its end mark");
    }
}
