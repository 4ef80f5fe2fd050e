//! The backends of public rows, per thread.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use backend::http::{Client, tls_config};
use backend::{AnthropicBackend, Backend, HttpBackend, OpenAiBackend, Secret};

use crate::error::ApiError;
use crate::model::Upstream;

/// The longest silence of an upstream, before or within a response: the registrar's default.
const SILENCE: Duration = Duration::from_mins(10);
/// Most backends kept per thread. Beyond it, all are dropped and made anew.
const MAX_KEPT: usize = 256;

/// URL, key, and whether the upstream has Anthropic's API.
type BackendKey = (String, Option<String>, bool);

/// One thread's backends, which learn what their upstream supports, and its HTTP clients. The clients are created on first
/// use, since most hubs have no public row.
#[derive(Default)]
struct Backends {
    plain: OnceCell<Client>,
    tls: OnceCell<Client>,
    by_key: RefCell<HashMap<BackendKey, Rc<dyn Backend>>>,
}

thread_local! {
    static BACKENDS: Backends = Backends::default();
}

/// The thread's backend for `upstream`. A client that is made for it keeps at most `idle` connections.
pub(super) fn backend(
    upstream: &Upstream,
    provider_type: &str,
    idle: usize,
) -> Result<Rc<dyn Backend>, ApiError> {
    BACKENDS.with(|backends| {
        let is_anthropic = provider_type == "anthropic";
        let key = (upstream.url.clone(), upstream.api_key.clone(), is_anthropic);
        if let Some(made) = backends.by_key.borrow().get(&key) {
            return Ok(Rc::clone(made));
        }
        let http = backends.client(&upstream.url, idle)?;
        let settings = HttpBackend {
            url: Secret::new(versioned(&upstream.url)),
            api_key: upstream.api_key.as_deref().map(Secret::new),
        };
        let backend: Rc<dyn Backend> = if is_anthropic {
            Rc::new(AnthropicBackend::new(http, &settings, SILENCE, None))
        } else {
            Rc::new(OpenAiBackend::new(http, &settings, SILENCE, None))
        };
        let mut by_key = backends.by_key.borrow_mut();
        if by_key.len() >= MAX_KEPT {
            by_key.clear();
        }
        by_key.insert(key, Rc::clone(&backend));
        Ok(backend)
    })
}

impl Backends {
    fn client(&self, url: &str, idle: usize) -> Result<Client, ApiError> {
        if !url.starts_with("https://") {
            return Ok(self.plain.get_or_init(|| Client::bounded(None, idle)).clone());
        }
        if let Some(client) = self.tls.get() {
            return Ok(client.clone());
        }
        let tls = tls_config(None).map_err(ApiError::internal)?;
        Ok(self.tls.get_or_init(|| Client::bounded(Some(tls), idle)).clone())
    }
}

/// `base` with the version `/v1`, unless it has one.
fn versioned(base: &str) -> String {
    let base = base.trim_end_matches('/');
    let has_version = base.split('/').skip(3).any(|segment| {
        segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    if has_version { base.to_owned() } else { format!("{base}/v1") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_without_a_version_gets_v1() {
        assert_eq!(versioned("http://h:1"), "http://h:1/v1");
        assert_eq!(versioned("http://h:1/v1/"), "http://h:1/v1");
        assert_eq!(versioned("https://h/api/v1"), "https://h/api/v1");
        assert_eq!(versioned("https://h/v1beta/openai"), "https://h/v1beta/openai");
        assert_eq!(versioned("https://v1host/proxy"), "https://v1host/proxy/v1");
    }
}
