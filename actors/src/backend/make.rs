//! From settings to a backend.

use std::rc::Rc;

use awc::Client;

use super::Backend;
use super::anthropic::AnthropicBackend;
use super::mock::MockBackend;
use super::openai::OpenAiBackend;
use crate::options::{BackendConfig, ProviderConfig};

/// The backend of a provider, which calls by `http` if it calls at all.
pub fn make(config: &ProviderConfig, http: &Client) -> Rc<dyn Backend> {
    match &config.backend {
        BackendConfig::OpenAi(backend) => Rc::new(OpenAiBackend::new(http.clone(), backend, config)),
        BackendConfig::Anthropic(backend) => Rc::new(AnthropicBackend::new(http.clone(), backend, config)),
        BackendConfig::Mock(mock) => Rc::new(MockBackend::new(mock.clone())),
        BackendConfig::Custom(custom) => (custom.0)(),
    }
}
