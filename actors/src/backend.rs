//! What runs a model: the crate `backend`, and the way from a provider's settings to one of its backends.

use std::rc::Rc;

pub use backend::http::Client;
pub use backend::{
    AnswerBudget, AnthropicBackend, Backend, BackendError, BackendHealth, BackendRequest, MockBackend,
    OpenAiBackend, Refusal, Reply, offload_stream_events,
};

use crate::options::{BackendConfig, ProviderConfig};

/// The backend of a provider, which calls by `http` if it calls at all.
pub fn make(config: &ProviderConfig, http: &Client) -> Rc<dyn Backend> {
    let (http, availability) = (http.clone(), config.availability.clone());
    match &config.backend {
        BackendConfig::OpenAi(backend) => {
            Rc::new(OpenAiBackend::new(http, backend, config.timeout, availability))
        }
        BackendConfig::Anthropic(backend) => {
            Rc::new(AnthropicBackend::new(http, backend, config.timeout, availability))
        }
        BackendConfig::Mock(mock) => Rc::new(MockBackend::new(mock.clone())),
        BackendConfig::Custom(custom) => (custom.0)(),
    }
}
