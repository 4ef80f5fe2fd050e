//! What a publisher waits for that has ended a durable task: that the end is written down. Pure.
//!
//! The worker of the task has a [`Promise`] for each dispatch, the dispatch has its [`Receipt`]. A promise that is dropped
//! was for nothing: the task was taken back, or revoked.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// What became of the last word of a dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    /// Nothing yet.
    Open,
    /// It could not be written down, so many times. It is tried again.
    Failed(u64),
    /// It is written down, or nothing of it has to be: the task went on to another publisher.
    Done,
}

/// The worker's end of it.
#[derive(Debug)]
pub struct Promise {
    word: watch::Sender<Word>,
    again: Arc<Notify>,
}

/// The publisher's end of it.
#[derive(Debug, Clone)]
pub struct Receipt {
    word: watch::Receiver<Word>,
    again: Arc<Notify>,
}

/// What a publisher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing more is wanted of it.
    Done,
    /// It could not be written down now.
    Failed,
    /// Nobody waits for the task any more.
    Gone,
}

impl Default for Promise {
    fn default() -> Self {
        Self { word: watch::Sender::new(Word::Open), again: Arc::default() }
    }
}

impl Promise {
    /// Its receipt.
    pub fn receipt(&self) -> Receipt {
        Receipt { word: self.word.subscribe(), again: self.again.clone() }
    }

    /// It is kept.
    pub fn kept(self) {
        self.word.send_replace(Word::Done);
    }

    /// It could not be kept yet.
    pub fn failed(&self) {
        self.word.send_modify(|word| {
            let before = if let Word::Failed(times) = word { *times } else { 0 };
            *word = Word::Failed(before + 1);
        });
    }

    /// Resolves when a publisher asks again.
    pub async fn asked_again(&self) {
        self.again.notified().await;
    }
}

impl Receipt {
    /// The next news of it. One who asks after a failure has it tried at once.
    pub(super) async fn told(mut self) -> Told {
        let before = *self.word.borrow();
        if before != Word::Open {
            self.again.notify_one();
        }
        let is_news = |word: &Word| match word {
            Word::Open => false,
            Word::Failed(_) => *word != before,
            Word::Done => true,
        };
        match self.word.wait_for(is_news).await.as_deref() {
            Ok(Word::Done) => Told::Done,
            Ok(_) => Told::Failed,
            Err(_) => Told::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_receipt_tells_what_is_new_and_asks_again_after_a_failure() {
        let promise = Promise::default();
        assert_eq!(promise.receipt().told().now_or_never(), None);
        let (first, second) = (promise.receipt(), promise.receipt());
        let mut waits = Box::pin(first.told());
        assert_eq!((&mut waits).now_or_never(), None);
        assert!(promise.asked_again().now_or_never().is_none(), "nothing has failed");
        promise.failed();
        assert_eq!(waits.now_or_never(), Some(Told::Failed));
        let mut again = Box::pin(second.told());
        assert_eq!((&mut again).now_or_never(), None, "the failure was told");
        assert!(promise.asked_again().now_or_never().is_some());
        promise.failed();
        assert_eq!(again.now_or_never(), Some(Told::Failed));
        let late = promise.receipt();
        promise.kept();
        assert_eq!(late.clone().told().now_or_never(), Some(Told::Done));
        assert_eq!(late.told().now_or_never(), Some(Told::Done), "for as long as anybody asks");
        let of_none = Promise::default().receipt();
        assert_eq!(of_none.told().now_or_never(), Some(Told::Gone), "it was for nothing");
    }
}
