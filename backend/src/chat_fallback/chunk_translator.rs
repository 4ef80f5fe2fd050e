//! Translates the stream of a chat completion to the events of another API.

use std::sync::Arc;

use parking_lot::Mutex;
use wire::task::Endpoint;

use super::error_body_for;
use crate::BackendError;
use crate::translate::StreamTranslator;
use crate::translate::responses::{self, StoredItems};
use crate::translated_stream::EventTranslator;

/// Translates the chunks of a chat completion to the events of `endpoint`.
pub(super) struct ChunkTranslator {
    pub(super) endpoint: Endpoint,
    pub(super) translator: StreamTranslator,
    /// `None` if the caller wants no items stored.
    pub(super) stored: Option<Arc<Mutex<StoredItems>>>,
}

impl EventTranslator for ChunkTranslator {
    fn size(&self) -> usize {
        self.translator.size()
    }

    fn translate(&mut self, chunk: Option<&str>) -> Result<Vec<String>, BackendError> {
        let events = match chunk {
            Some(chunk) => self.translator.push(chunk)?,
            None => self.translator.finish(),
        };
        for event in &events {
            store_items(self.stored.as_deref(), event);
        }
        Ok(events)
    }

    fn translate_error(&self, error: BackendError) -> BackendError {
        error.map_body(|status, body| error_body_for(self.endpoint, status, body))
    }
}

/// Stores the items that an event or a whole response completes.
pub(super) fn store_items(stored: Option<&Mutex<StoredItems>>, event: &str) {
    if let Some(stored) = stored {
        let items = responses::items(event);
        if !items.is_empty() {
            stored.lock().add(items);
        }
    }
}
