//! Translates the chunks of a streamed chat completion to events.

use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::stream::LocalBoxStream;
use wire::task::Endpoint;

use super::ChatFallback;
use super::errors::{translate_error, unreadable};
use crate::BackendError;
use crate::budget::Reservation;
use crate::offload::{LONG_ANSWER, offload};
use crate::translate::{AnswerError, Context, messages, responses};

/// A streamed answer that is being translated.
pub(super) struct TranslatedStream {
    pub(super) fallback: Rc<ChatFallback>,
    pub(super) endpoint: Endpoint,
    pub(super) user: String,
    /// Whether later requests can refer to the items of the answer.
    pub(super) is_stored: bool,
    /// `None` after an error and after the end.
    pub(super) translator: Option<Translator>,
    pub(super) chunks: LocalBoxStream<'static, Result<String, BackendError>>,
    /// Memory of the answer so far, which the final events repeat, and of the current chunk.
    pub(super) reservation: Reservation,
}

impl TranslatedStream {
    /// Returns the events of the next chunk, or the final ones. Ends after an error.
    pub(super) async fn next(mut self) -> Option<(Vec<Result<String, BackendError>>, Self)> {
        let translator = self.translator.take()?;
        let events = match self.chunks.next().await {
            Some(Ok(chunk)) => self.translate(translator, Some(chunk)).await,
            Some(Err(error)) => Err(translate_error(self.endpoint, error)),
            // A stream that ends without an error is complete.
            None => self.translate(translator, None).await,
        };
        Some((
            events.map_or_else(|error| vec![Err(error)], |events| events.into_iter().map(Ok).collect()),
            self,
        ))
    }

    async fn translate(
        &mut self,
        mut translator: Translator,
        chunk: Option<String>,
    ) -> Result<Vec<String>, BackendError> {
        let (is_stored, is_last) = (self.is_stored, chunk.is_none());
        if !self.reservation.resize(translator.size() + chunk.as_ref().map_or(0, String::len)) {
            return Err(BackendError::BudgetExceeded);
        }
        // The final events repeat the whole answer.
        let size =
            if translator.size() > LONG_ANSWER { usize::MAX } else { chunk.as_ref().map_or(0, String::len) };
        let work = move || {
            let events = match &chunk {
                Some(chunk) => translator.take(chunk)?,
                None => translator.end(),
            };
            let items = if is_stored {
                events.iter().flat_map(|event| responses::items(event)).collect()
            } else {
                Vec::new()
            };
            Ok((translator, events, items))
        };
        let (translator, events, items) = offload(&self.user, size, work).await?.map_err(unreadable)?;
        self.fallback.stored.borrow_mut().add(items);
        self.translator = Some(translator).filter(|_| !is_last);
        Ok(events)
    }
}

/// Translates a stream to one of the two APIs.
pub(super) enum Translator {
    Messages(messages::StreamTranslator),
    Responses(responses::StreamTranslator),
}

impl Translator {
    pub(super) fn new(endpoint: Endpoint, context: Context) -> Self {
        match endpoint {
            Endpoint::Messages => Self::Messages(messages::StreamTranslator::new(context)),
            _ => Self::Responses(responses::StreamTranslator::new(context)),
        }
    }

    fn take(&mut self, chunk: &str) -> Result<Vec<String>, AnswerError> {
        match self {
            Self::Messages(events) => events.take(chunk),
            Self::Responses(events) => events.take(chunk),
        }
    }

    /// Returns the size of the answer so far, in bytes.
    fn size(&self) -> usize {
        match self {
            Self::Messages(events) => events.size(),
            Self::Responses(events) => events.size(),
        }
    }

    fn end(&mut self) -> Vec<String> {
        match self {
            Self::Messages(events) => events.end(),
            Self::Responses(events) => events.end(),
        }
    }
}
