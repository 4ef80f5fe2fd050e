//! A backend that does what a test says.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::LocalBoxFuture;
use tokio::sync::Semaphore;
use wire::WireName;

use crate::backend::{Backend, BackendError, BackendRequest, Reply};
use crate::options::{BackendConfig, CustomBackend, ProviderConfig};

/// The strings of a puppet; the maker of backends travels in messages, so they are `Sync`.
#[derive(Clone)]
pub(super) struct Puppet {
    word: &'static str,
    /// Each answer takes one permit.
    pub(super) permits: Arc<Semaphore>,
    pub(super) started: Arc<AtomicUsize>,
    pub(super) dropped: Arc<AtomicUsize>,
    /// What it says of itself.
    pub(super) available: Arc<AtomicBool>,
}

impl Puppet {
    /// One that answers at once.
    pub(super) fn new(word: &'static str) -> Self {
        let puppet = Self::held(word);
        puppet.permits.add_permits(1000);
        puppet
    }

    /// One that answers when it gets a permit.
    pub(super) fn held(word: &'static str) -> Self {
        let (started, dropped) = (Arc::default(), Arc::default());
        let available = Arc::new(AtomicBool::new(true));
        Self { word, permits: Arc::new(Semaphore::new(0)), started, dropped, available }
    }

    pub(super) fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    /// Answers that were begun and not awaited to their end.
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

/// A provider that answers at once, for tests that ask it nothing.
pub(super) fn provider(name: &str) -> ProviderConfig {
    Puppet::new("hello").provider(name)
}

/// A provider whose every answer is a panic.
pub(super) fn crashing(name: &str) -> ProviderConfig {
    Puppet::new("panic").provider(name)
}

struct Begun(Arc<AtomicUsize>, bool);

impl Drop for Begun {
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
            let mut begun = Begun(Arc::clone(&puppet.dropped), false);
            puppet.permits.acquire().await.unwrap().forget();
            begun.1 = true;
            assert!(puppet.word != "panic", "the puppet was told to");
            let body = format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, puppet.word);
            Ok(Reply::Whole { status: 200, body })
        })
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        let available = self.available.load(Ordering::SeqCst);
        Box::pin(async move { available })
    }
}
