//! Questions to other processes, each with its own subject for the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::Client;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{ASK_AGAIN, Questions, publish};
use crate::cluster::bus::{Unanswered, Unsent};
use crate::cluster::frame::{Frame, Unencodable};
/// A question to be asked.
pub(super) struct Question {
    pub(super) client: Client,
    pub(super) subject: String,
    pub(super) answers: String,
    pub(super) bytes: Result<Bytes, Unencodable>,
    pub(super) asked: Arc<AtomicU64>,
    pub(super) questions: Arc<Questions>,
}

impl Question {
    /// Asks, and asks once more if nobody is there.
    pub(super) async fn ask(self) -> Result<Frame, Unanswered> {
        let bytes = self.bytes.clone().map_err(|_| Unsent::TooLong)?;
        match self.ask_once(bytes.clone()).await {
            Err(Unanswered::Nobody) => {
                sleep(ASK_AGAIN).await;
                self.ask_once(bytes).await
            }
            answer => answer,
        }
    }

    async fn ask_once(&self, bytes: Bytes) -> Result<Frame, Unanswered> {
        let (sender, answer) = oneshot::channel();
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        self.questions.lock().insert(number, sender);
        let _waiting = Waiting { number, questions: &self.questions };
        publish(&self.client, self.subject.clone(), Some(format!("{}{number}", self.answers)), bytes)?;
        answer.await.unwrap_or(Err(Unanswered::Late))
    }
}

/// Forgets a question when nobody waits for its answer.
struct Waiting<'a> {
    number: u64,
    questions: &'a Questions,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.questions.lock().remove(&self.number);
    }
}
