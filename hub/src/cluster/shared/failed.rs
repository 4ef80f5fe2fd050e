//! What failed a moment ago.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::StoreError;

/// Time for which what failed is not tried again.
const FAILED_FOR: Duration = Duration::from_millis(500);

/// How something failed a moment ago. It fails for all that wait for it: each of them would wait for as long.
#[derive(Default)]
pub(super) struct Failed(Option<(Instant, StoreError)>);

impl Failed {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Some((at, error)) if at.elapsed() < FAILED_FOR => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub(super) fn note<T>(&mut self, result: &Result<T, StoreError>) {
        self.0 = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
    }
}
