//! Creates the backend of a provider from its settings. The backends themselves are in the crate `backend`.

use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

pub use backend::http::Client;
pub use backend::{
    AbilityAnswer, AnswerBudget, AnthropicBackend, Backend, BackendError, BackendHealth, BackendRequest,
    MockBackend, OpenAiBackend, Refusal, Reply, offload_stream_events,
};

use crate::http::proxy::Dialer;
use crate::options::{BackendConfig, ProviderConfig};

/// Limit of [`Backend::available`]: above the 2 s of the built-in backends.
const AVAILABLE_LIMIT: Duration = Duration::from_secs(3);
/// Limit of [`Backend::health`]: three intervals of the health check.
const HEALTH_LIMIT: Duration = Duration::from_secs(30);

/// The client for a provider's backend: `http`, or one with its TLS that goes through the provider's proxy.
pub fn client_of(config: &ProviderConfig, http: &Client) -> Client {
    match &config.proxy {
        Some(proxy) => http.through(Rc::new(Dialer::new(proxy, &config.name))),
        None => http.clone(),
    }
}

/// Makes the backend of a provider. Its HTTP calls use `http`, through the provider's proxy if there is one.
pub(crate) fn make(config: &ProviderConfig, http: &Client) -> Rc<dyn Backend> {
    let (http, availability) = (client_of(config, http), config.availability.clone());
    match &config.backend {
        BackendConfig::OpenAi(backend) => {
            let backend = OpenAiBackend::new(http, backend, config.timeout, availability);
            Rc::new(backend.keep_attribution(config.keep_attribution))
        }
        BackendConfig::Anthropic(backend) => {
            Rc::new(AnthropicBackend::new(http, backend, config.timeout, availability))
        }
        BackendConfig::Mock(mock) => Rc::new(MockBackend::new(mock.clone())),
        BackendConfig::Custom(custom) => Rc::new(TimeLimited((custom.0)())),
    }
}

/// Asks the backend of a provider what its model can do, within 2 s. The owner's own words are not in the answer.
pub async fn abilities(config: &ProviderConfig, http: &Client) -> AbilityAnswer {
    let http = client_of(config, http);
    match &config.backend {
        BackendConfig::OpenAi(server) => {
            backend::abilities(&http, server, config.server, &config.model).await
        }
        BackendConfig::Anthropic(server) => backend::anthropic_abilities(&http, server, &config.model).await,
        BackendConfig::Mock(_) | BackendConfig::Custom(_) => AbilityAnswer::UNKNOWN,
    }
}

/// A library user's backend, with time limits for its checks.
struct TimeLimited(Rc<dyn Backend>);

impl Backend for TimeLimited {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        self.0.infer(request)
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        let available = self.0.available();
        async { timeout(AVAILABLE_LIMIT, available).await.unwrap_or(false) }.boxed_local()
    }

    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let health = self.0.health();
        let silent = BackendHealth::Silent("it does not answer in time");
        async move { timeout(HEALTH_LIMIT, health).await.unwrap_or(silent) }.boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Instant, pause};

    use super::*;
    use crate::options::CustomBackend;

    struct Hanging;

    impl Backend for Hanging {
        fn infer(&self, _: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
            std::future::pending().boxed_local()
        }

        fn available(&self) -> LocalBoxFuture<'static, bool> {
            std::future::pending().boxed_local()
        }
    }

    #[actix::test]
    async fn a_custom_backend_whose_check_hangs_is_not_available() {
        pause();
        let custom = BackendConfig::Custom(CustomBackend(Arc::new(|| Rc::new(Hanging))));
        let config = ProviderConfig::new("a".parse().unwrap(), "m", custom);
        let (start, backend) = (Instant::now(), make(&config, &Client::new(None)));
        assert!(!backend.available().await);
        assert_eq!(start.elapsed().as_secs(), 3);
        assert!(matches!(backend.health().await, BackendHealth::Silent(_)));
    }
}
