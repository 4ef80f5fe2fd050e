//! Stands in until the real one is there: a library user's own backends alone.

use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};

use super::{Backend, BackendError, BackendRequest, Reply};
use crate::options::{BackendConfig, ProviderConfig};

/// The backend of a provider, which calls by `http` if it calls at all.
pub fn make(config: &ProviderConfig, _http: &awc::Client) -> Rc<dyn Backend> {
    match &config.backend {
        BackendConfig::Custom(custom) => (custom.0)(),
        _ => Rc::new(Nothing),
    }
}

struct Nothing;

impl Backend for Nothing {
    fn infer(&self, _: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        ready(Err(BackendError::Unavailable)).boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        ready(false).boxed_local()
    }
}
