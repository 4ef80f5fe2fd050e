//! Whether a backend could answer now (SPEC.md section 6).

use std::time::Duration;

use awc::Client;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

use super::openai::Headers;
use crate::http::read_body;
use crate::options::{self, HttpBackend};

/// A backend that needs longer to list its models will not answer either.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest answer that is read: a list of a few thousand models.
const MAX_ANSWER: usize = 4 << 20;

/// How to ask.
#[derive(Clone)]
pub(super) struct Availability {
    http: Client,
    url: String,
    /// The backend's own, its key among them: they go nowhere else.
    headers: Headers,
    wanted: Option<(String, serde_json::Value)>,
}

impl Availability {
    /// `GET {url}/models`, or what the owner configured.
    pub(super) fn new(
        http: Client,
        backend: &HttpBackend,
        headers: Headers,
        other: Option<options::Availability>,
    ) -> Self {
        match other {
            Some(other) => Self {
                http,
                url: other.url.reveal().to_owned(),
                headers: Headers::default(),
                wanted: Some((other.json_pointer, other.equals)),
            },
            None => Self { http, url: format!("{}/models", backend.url.reveal()), headers, wanted: None },
        }
    }

    /// Asks. An error counts as no.
    pub(super) fn check(&self) -> LocalBoxFuture<'static, bool> {
        let this = self.clone();
        async move { timeout(LIMIT, this.ask()).await.unwrap_or(false) }.boxed_local()
    }

    async fn ask(self) -> bool {
        let mut call = self.http.get(&self.url).timeout(LIMIT).no_decompress();
        for (name, value) in &*self.headers {
            call = call.insert_header((*name, value.reveal()));
        }
        let Ok(response) = call.send().await else { return false };
        let status = response.status();
        // Read to its end, or the connection is lost; how it ends does not matter to the default question.
        let body = read_body(response, MAX_ANSWER, LIMIT).await;
        let Some((pointer, wanted)) = &self.wanted else { return status.is_success() };
        let Ok(body) = body else { return false };
        let answer: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        status.is_success() && answer.as_ref().and_then(|answer| answer.pointer(pointer)) == Some(wanted)
    }
}
