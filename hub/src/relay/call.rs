//! What is noted of one inference: an audit row when it is over.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::openai::Usage;
use wire::row::Timestamp;

use crate::clock;
use crate::core::Hub;
use crate::model::{AuditRecord, UserId};
use crate::registry::Candidate;
use crate::store::Change;

/// The status of a caller who left, as nginx has it.
const LEFT: u16 = 499;

/// One inference. The audit row is written when the last holder lets go.
pub struct Call {
    hub: Arc<Hub>,
    user: UserId,
    target: String,
    streaming: bool,
    created_at: Timestamp,
    start: Instant,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    task: String,
    llm: Option<String>,
    model: String,
    publisher: Option<String>,
    status: Option<u16>,
    first_byte_ms: Option<u64>,
    usage: Usage,
}

impl Call {
    /// An inference begins.
    pub fn new(hub: &Arc<Hub>, user: &str, target: &str, streaming: bool) -> Arc<Self> {
        Arc::new(Self {
            hub: hub.clone(),
            user: user.to_owned(),
            target: target.to_owned(),
            streaming,
            created_at: clock::now(),
            start: Instant::now(),
            notes: Mutex::default(),
        })
    }

    /// A member was chosen.
    pub fn dispatched(&self, task: &str, candidate: &Candidate) {
        let mut notes = self.notes.lock();
        task.clone_into(&mut notes.task);
        notes.llm = Some(candidate.name.clone());
        notes.model.clone_from(&candidate.model);
        notes.publisher.clone_from(&candidate.session);
    }

    /// The first content came.
    pub fn first_byte(&self) {
        let elapsed = self.elapsed_ms();
        self.notes.lock().first_byte_ms.get_or_insert(elapsed);
    }

    /// The answer says what it cost.
    pub fn used(&self, usage: Usage) {
        let mut notes = self.notes.lock();
        notes.usage =
            Usage { input: usage.input.or(notes.usage.input), output: usage.output.or(notes.usage.output) };
    }

    /// It is over, with this status. Without it, its caller left.
    pub fn ended(&self, status: u16) {
        self.notes.lock().status.get_or_insert(status);
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let total_ms = self.elapsed_ms();
        let notes = std::mem::take(self.notes.get_mut());
        self.hub.save(vec![Change::Audit(AuditRecord {
            task: notes.task,
            user: std::mem::take(&mut self.user),
            llm: notes.llm.unwrap_or_else(|| std::mem::take(&mut self.target)),
            model: notes.model,
            publisher: notes.publisher,
            streaming: self.streaming,
            status: notes.status.unwrap_or(LEFT),
            created_at: self.created_at,
            first_byte_ms: notes.first_byte_ms,
            total_ms,
            input_tokens: notes.usage.input,
            output_tokens: notes.usage.output,
        })]);
    }
}
