//! A backend that the test controls. Unlike `fakes::backend`, it is `Send`, because settings are sent in messages.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;
use wire::WireName;

use crate::backend::{Backend, BackendError, BackendRequest, Reply};
use crate::options::{BackendConfig, CustomBackend, ProviderConfig};

#[derive(Clone)]
pub(super) struct ControlledBackend {
    word: &'static str,
    /// Each answer waits for one permit.
    pub(super) permits: Arc<Semaphore>,
    pub(super) started: Arc<AtomicUsize>,
    pub(super) dropped: Arc<AtomicUsize>,
    pub(super) available: Arc<AtomicBool>,
}

impl ControlledBackend {
    /// A backend that answers at once.
    pub(super) fn new(word: &'static str) -> Self {
        let backend = Self::held(word);
        backend.permits.add_permits(1000);
        backend
    }

    /// A backend whose answers wait for permits.
    pub(super) fn held(word: &'static str) -> Self {
        let (started, dropped) = (Arc::default(), Arc::default());
        let available = Arc::new(AtomicBool::new(true));
        Self { word, permits: Arc::new(Semaphore::new(0)), started, dropped, available }
    }

    pub(super) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Number of calls that were dropped before their end.
    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// A provider with this backend.
    pub(super) fn provider(&self, name: &str) -> ProviderConfig {
        let backend = self.clone();
        let make = CustomBackend(Arc::new(move || Rc::new(backend.clone())));
        ProviderConfig::new(WireName::parse(name).unwrap(), "model", BackendConfig::Custom(make))
    }
}

/// A provider that answers at once.
pub(super) fn provider(name: &str) -> ProviderConfig {
    ControlledBackend::new("hello").provider(name)
}

/// A provider that panics at each call.
pub(super) fn crashing(name: &str) -> ProviderConfig {
    ControlledBackend::new("panic").provider(name)
}

struct CallGuard(Arc<AtomicUsize>, bool);

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Backend for ControlledBackend {
    fn infer(&self, _: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let backend = self.clone();
        Box::pin(async move {
            backend.started.fetch_add(1, Ordering::SeqCst);
            let mut guard = CallGuard(Arc::clone(&backend.dropped), false);
            backend.permits.acquire().await.unwrap().forget();
            guard.1 = true;
            assert!(backend.word != "panic", "requested by the test");
            let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, backend.word);
            Ok(Reply::Whole { status: 200, body })
        })
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        let available = self.available.load(Ordering::SeqCst);
        Box::pin(async move { available })
    }
}
