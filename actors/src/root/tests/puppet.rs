//! A backend controlled by a test, for settings that are sent in messages.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;
use wire::WireName;

use crate::backend::{Backend, BackendError, BackendRequest, Reply};
use crate::options::{BackendConfig, CustomBackend, ProviderConfig};

#[derive(Clone)]
pub(super) struct Puppet {
    word: &'static str,
    /// Each answer takes one permit.
    pub(super) permits: Arc<Semaphore>,
    pub(super) started: Arc<AtomicUsize>,
    pub(super) dropped: Arc<AtomicUsize>,
    pub(super) available: Arc<AtomicBool>,
}

impl Puppet {
    /// A backend that answers at once.
    pub(super) fn new(word: &'static str) -> Self {
        let puppet = Self::held(word);
        puppet.permits.add_permits(1000);
        puppet
    }

    /// A backend that answers when it gets a permit.
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
        let puppet = self.clone();
        let make = CustomBackend(Arc::new(move || Rc::new(puppet.clone())));
        ProviderConfig::new(WireName::parse(name).unwrap(), "model", BackendConfig::Custom(make))
    }
}

/// A provider that answers at once.
pub(super) fn provider(name: &str) -> ProviderConfig {
    Puppet::new("hello").provider(name)
}

/// A provider that panics at each call.
pub(super) fn crashing(name: &str) -> ProviderConfig {
    Puppet::new("panic").provider(name)
}

struct CallGuard(Arc<AtomicUsize>, bool);

impl Drop for CallGuard {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Backend for Puppet {
    fn infer(&self, _: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let puppet = self.clone();
        Box::pin(async move {
            puppet.started.fetch_add(1, Ordering::SeqCst);
            let mut guard = CallGuard(Arc::clone(&puppet.dropped), false);
            puppet.permits.acquire().await.unwrap().forget();
            guard.1 = true;
            assert!(puppet.word != "panic", "requested by the test");
            let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, puppet.word);
            Ok(Reply::Whole { status: 200, body })
        })
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        let available = self.available.load(Ordering::SeqCst);
        Box::pin(async move { available })
    }
}
