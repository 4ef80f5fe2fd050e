//! Translates the events of a streamed answer, large ones on another thread.

use futures_util::{StreamExt, stream};

use crate::budget::Reservation;
use crate::offload::offload;
use crate::translate::LONG_ANSWER;
use crate::{BackendError, ReplyStream};

/// Translates the events of one stream to another API.
pub(crate) trait EventTranslator: Send + 'static {
    /// Returns the size in bytes of what is kept of the answer and of the request, which the next events can repeat.
    fn size(&self) -> usize;

    /// Translates an event; `None` is the end of the stream.
    fn translate(&mut self, event: Option<&str>) -> Result<Vec<String>, BackendError>;

    /// Translates the body of a refusal.
    fn translate_error(&self, error: BackendError) -> BackendError;
}

/// Translates `events` of `user`. `reservation` counts what the translator keeps, the current event and its translation.
pub(crate) fn translated_stream(
    events: ReplyStream,
    translator: impl EventTranslator,
    user: String,
    reservation: Reservation,
) -> ReplyStream {
    let stream = TranslatedStream { events, translator: Some(translator), user, reservation };
    stream::unfold(stream, TranslatedStream::next).map(stream::iter).flatten().boxed_local()
}

struct TranslatedStream<T> {
    events: ReplyStream,
    /// `None` after an error and after the end.
    translator: Option<T>,
    user: String,
    reservation: Reservation,
}

impl<T: EventTranslator> TranslatedStream<T> {
    /// Returns the translation of the next event.
    async fn next(mut self) -> Option<(Vec<Result<String, BackendError>>, Self)> {
        let translator = self.translator.take()?;
        let events = match self.events.next().await.transpose() {
            // A stream that ends without an error is complete.
            Ok(event) => self.translate(translator, event).await,
            Err(error) => Err(translator.translate_error(error)),
        };
        let events = events.map(|events| events.into_iter().map(Ok).collect());
        Some((events.unwrap_or_else(|error| vec![Err(error)]), self))
    }

    async fn translate(
        &mut self,
        mut translator: T,
        event: Option<String>,
    ) -> Result<Vec<String>, BackendError> {
        let (size, is_last) = (event.as_ref().map_or(0, String::len), event.is_none());
        if !self.reservation.resize(translator.size() + size) {
            return Err(BackendError::BudgetExceeded);
        }
        let size = if translator.size() > LONG_ANSWER { usize::MAX } else { size };
        let work = move || translator.translate(event.as_deref()).map(|events| (translator, events));
        let (translator, events) = offload(&self.user, size, work).await??;
        // They wait here until each is taken.
        let translated: usize = events.iter().map(String::len).sum();
        if !self.reservation.resize(translator.size() + translated) {
            return Err(BackendError::BudgetExceeded);
        }
        self.translator = Some(translator).filter(|_| !is_last);
        Ok(events)
    }
}
