//! A caller as applications have it: an HTTP client with kept connections. Every way is called with the same one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use awc::body::MessageBody;
use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;

/// Where to call, and how.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub path: &'static str,
    pub token: String,
}

impl Target {
    /// Another route of the same server.
    pub fn at(&self, path: &'static str) -> Self {
        Self { path, ..self.clone() }
    }
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
    pub async fn whole(&self, body: impl MessageBody + 'static) -> u16 {
        let mut response = self.request().send_body(body).await.unwrap();
        response.body().await.unwrap();
        response.status().as_u16()
    }

    /// One whole answer that must be a success.
    pub async fn text(&self, body: String) -> String {
        let mut response = self.request().send_body(body).await.unwrap();
        assert!(response.status().is_success(), "{}", response.status());
        String::from_utf8(response.body().await.unwrap().to_vec()).unwrap()
    }

    pub async fn get(&self) -> String {
        let mut response = self.client.get(&self.url).send().await.unwrap();
        String::from_utf8(response.body().await.unwrap().to_vec()).unwrap()
    }

    /// A publisher's channel: whether each piece came whole.
    pub async fn channel(&self, session: &str) -> LocalBoxStream<'static, bool> {
        let request = self.client.get(&self.url).bearer_auth(&self.token).no_decompress();
        let request = request.insert_header((wire::features::SESSION_HEADER, session));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.map(|piece| piece.is_ok()).boxed_local()
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

    /// One stream, left after its first piece; gives the time when.
    pub async fn leave_early(&self, body: String) -> Duration {
        let mut response = self.request().send_body(body).await.unwrap();
        response.next().await.unwrap().unwrap();
        now()
    }
}

/// The time since the epoch: the one clock that two processes share here.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}
