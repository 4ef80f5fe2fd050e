//! Lists with large texts. Their texts are stored in parts before the list is committed, on a connection of their own and a
//! part of each owner in turn: so a large value delays its own write and those of its task, and no others.

mod entry;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::connection::Failure;
use super::lease::Lease;
use super::parts::{self, PART, StoredText, Upload};
use super::tasks;
use super::writer::SharedConnection;
use crate::model::{DurableTask, UserId};
use crate::news::news;
use crate::store::tasks::size;
use crate::store::writer::RETRY_EVERY;
use crate::store::{Change, StoreError};

pub(super) use entry::{Entry, Texts};

/// Texts above this size wait in their owner's queue after a failed write. Smaller ones wait with the small changes, which block
/// later writes.
const HEAVY: usize = 16 << 10;

/// Ids of tasks whose record could not be written yet, although its writer was told that it will be. A claim is not a record:
/// an end that is pending is not written when a claim before it is.
pub(super) type Unwritten = Arc<Mutex<HashSet<String>>>;

/// The lists with large texts: a queue for each owner, in which they wait in order.
pub(super) struct Large {
    connection: SharedConnection,
    lease: Lease,
    queues: RefCell<OwnerQueues>,
    /// Lists whose texts are stored, to the writer.
    staged: mpsc::UnboundedSender<Entry>,
    pub(super) unwritten: Unwritten,
    /// Whether the store closes: nothing is tried again.
    pub(super) is_closing: Cell<bool>,
    /// Number of write-behind lists that were not written when the store closed.
    pub(super) given_up: Cell<usize>,
    /// A queue has ended.
    pub(super) ended: Notify,
}

#[derive(Default)]
struct OwnerQueues {
    waiting: HashMap<UserId, VecDeque<Entry>>,
    /// The owner of each task with a list in a queue, and the number of these lists.
    tasks: HashMap<String, (UserId, usize)>,
}

impl Large {
    pub(super) fn new(
        connection: SharedConnection,
        lease: Lease,
        staged: mpsc::UnboundedSender<Entry>,
        unwritten: Unwritten,
    ) -> Rc<Self> {
        let (queues, is_closing, given_up, ended) = Default::default();
        Rc::new(Self { connection, lease, queues, staged, unwritten, is_closing, given_up, ended })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.borrow().waiting.is_empty()
    }

    /// The queue for a list: one in which an earlier list of its tasks is, or that of a large text's owner. `None` for others.
    pub(super) fn queue_of(&self, changes: &[Change]) -> Option<UserId> {
        let queues = self.queues.borrow();
        let earlier = changes.iter().filter_map(task_of).find_map(|task| queues.tasks.get(task));
        earlier.map(|(owner, _)| owner.clone()).or_else(|| owner_of_text(changes, PART))
    }

    pub(super) fn push(self: &Rc<Self>, owner: UserId, entry: Entry) {
        let mut queues = self.queues.borrow_mut();
        for task in entry.changes.iter().filter_map(task_of) {
            queues.tasks.entry(task.to_owned()).or_insert_with(|| (owner.clone(), 0)).1 += 1;
        }
        if let Some(queue) = queues.waiting.get_mut(&owner) {
            return queue.push_back(entry);
        }
        queues.waiting.insert(owner.clone(), VecDeque::from([entry]));
        spawn_local(self.clone().run(owner));
    }

    /// Writes the lists of `owner` in order, until none is left.
    async fn run(self: Rc<Self>, owner: UserId) {
        loop {
            let Some(entry) = self.next(&owner) else { break };
            let Some(entry) = self.write(&owner, entry).await else { break };
            self.release(&entry);
        }
        self.ended.notify_one();
    }

    /// Counts a list that left its queue.
    fn release(&self, entry: &Entry) {
        let mut queues = self.queues.borrow_mut();
        for task in entry.changes.iter().filter_map(task_of) {
            let Some((_, lists)) = queues.tasks.get_mut(task) else { continue };
            *lists -= 1;
            if *lists == 0 {
                queues.tasks.remove(task);
                self.unwritten.lock().remove(task);
            }
        }
    }

    /// Answers a list that could not be written yet.
    fn answer_failed(&self, entry: &mut Entry, error: &StoreError) {
        if entry.is_write_behind && entry.reply.is_some() {
            self.unwritten.lock().extend(entry.changes.iter().filter_map(record_of).map(str::to_owned));
        }
        entry.answer(Err(error.clone()));
    }

    /// Answers an owner's waiting lists after one could not be written: they would fail as well. Write-behind lists
    /// stay; others are dropped.
    fn fail_waiting(&self, owner: &str, error: &StoreError) {
        let waiting = self.queues.borrow_mut().waiting.get_mut(owner).map(std::mem::take);
        let (mut kept, mut given_up) = (VecDeque::new(), Vec::new());
        for mut entry in waiting.into_iter().flatten() {
            self.answer_failed(&mut entry, error);
            if entry.is_write_behind { kept.push_back(entry) } else { given_up.push(entry) }
        }
        if let Some(queue) = self.queues.borrow_mut().waiting.get_mut(owner) {
            *queue = kept;
        }
        for entry in &given_up {
            self.release(entry);
        }
    }

    fn next(&self, owner: &str) -> Option<Entry> {
        let mut queues = self.queues.borrow_mut();
        let next = queues.waiting.get_mut(owner).and_then(VecDeque::pop_front);
        if next.is_none() {
            queues.waiting.remove(owner);
        }
        next
    }

    /// Writes a list, and answers its caller. A write-behind list is tried until it is written. `None` if the writer has ended.
    async fn write(&self, owner: &str, mut entry: Entry) -> Option<Entry> {
        let mut upload = None;
        loop {
            let result = match self.stage(&mut entry, &mut upload).await {
                Ok(()) => {
                    let (queue, outcome) = oneshot::channel();
                    self.staged.send(Entry { queue: Some(queue), ..entry }).ok()?;
                    let result;
                    (entry, result) = outcome.await.ok()?;
                    result
                }
                Err(failure) => {
                    if let Failure::Conflict(error) | Failure::Broken(error) = &failure {
                        news!(
                            error,
                            "failed uploads",
                            owner,
                            [user = owner],
                            "a large text of user={owner} waits: {error}"
                        );
                    }
                    Err(failure)
                }
            };
            if let Err(Failure::Conflict(error) | Failure::Broken(error)) = &result {
                self.answer_failed(&mut entry, error);
                self.fail_waiting(owner, error);
                if entry.is_write_behind && !self.is_closing.get() {
                    sleep(RETRY_EVERY).await;
                    continue;
                }
                self.given_up.update(|lists| lists + usize::from(entry.is_write_behind));
            }
            entry.answer(result.map_err(Failure::into_error));
            self.delete_unnamed(&entry, upload.as_ref()).await;
            return Some(entry);
        }
    }

    /// Stores the large texts of a list, and takes them out of it. After an error it goes on where it was.
    async fn stage(&self, entry: &mut Entry, upload: &mut Option<Upload>) -> Result<(), Failure> {
        if upload.is_none() && entry.texts.is_empty() {
            self.check_quota(&entry.changes).await?;
        }
        for (position, change) in entry.changes.iter_mut().enumerate() {
            let (Change::PutTask(task) | Change::NewTask { task, .. }) = change else { continue };
            if let Some(request) = task.request.as_mut().filter(|text| text.len() > PART) {
                let stored = self.upload(request, upload).await?;
                entry.texts.entry(position).or_default().request = Some(stored);
                *request = String::new();
            }
            if let Some((_, result)) = task.result.as_mut().filter(|(_, text)| text.len() > PART) {
                let stored = self.upload(result, upload).await?;
                entry.texts.entry(position).or_default().result = Some(stored);
                *result = String::new();
            }
        }
        Ok(())
    }

    /// Stores the parts of a text. The queues take turns at the connection.
    async fn upload(&self, text: &str, upload: &mut Option<Upload>) -> Result<StoredText, Failure> {
        loop {
            let mut connection = self.connection.lock().await;
            let session = connection.session().await.map_err(Failure::Broken)?;
            match upload.get_or_insert_with(Upload::new).step(&session, &self.lease, text).await {
                Ok(None) => {}
                Ok(Some(stored)) => {
                    *upload = None;
                    return Ok(stored);
                }
                Err(failure) => {
                    connection.close();
                    return Err(failure);
                }
            }
        }
    }

    /// Refuses a new task that is over its owner's quota now, before its texts are stored. The commit checks it again.
    async fn check_quota(&self, changes: &[Change]) -> Result<(), Failure> {
        for change in changes {
            let Change::NewTask { task, max_bytes } = change else { continue };
            let mut connection = self.connection.lock().await;
            let session = connection.session().await.map_err(Failure::Broken)?;
            let found = tasks::open_bytes(&session, &task.owner).await;
            if found.is_err() {
                connection.close();
            }
            let open = found?;
            if open.saturating_add(size(task)) > *max_bytes {
                return Err(Failure::Refused(StoreError::OverQuota(open)));
            }
        }
        Ok(())
    }

    /// Deletes the parts of a list's texts that are not named by its tasks: it was refused, or the task had ended before.
    async fn delete_unnamed(&self, entry: &Entry, upload: Option<&Upload>) {
        let stored =
            entry.texts.iter().flat_map(|(position, texts)| texts.all().map(|text| (*position, text.id)));
        // Of the upload under way, no task names a part.
        let stored = stored.chain(upload.map(|upload| (0, upload.id())));
        for (position, text) in stored {
            let task = entry.changes.get(position).and_then(task_of).unwrap_or_default();
            let mut connection = self.connection.lock().await;
            let Ok(session) = connection.session().await else { return };
            if parts::delete_unnamed(&session, &self.lease, text, task).await.is_err() {
                // The next start deletes them.
                return connection.close();
            }
        }
    }
}

/// The task that a change concerns.
fn task_of(change: &Change) -> Option<&str> {
    match change {
        Change::ClaimTask { id, .. } | Change::UnclaimTask(id) | Change::DeleteTask(id) => Some(id),
        other => record_of(other),
    }
}

/// The task whose record a change writes.
pub(super) fn record_of(change: &Change) -> Option<&str> {
    match change {
        Change::PutTask(task) | Change::NewTask { task, .. } => Some(&task.id),
        _ => None,
    }
}

/// The queue for a list that could not be written; `None` if it waits with the small changes.
pub(super) fn queue_of_pending(changes: &[Change]) -> Option<UserId> {
    owner_of_text(changes, HEAVY)
}

/// The owner of the first task with a text of more than `limit` bytes.
fn owner_of_text(changes: &[Change], limit: usize) -> Option<UserId> {
    let longest = |task: &DurableTask| {
        let result = task.result.as_ref().map_or(0, |(_, body)| body.len());
        task.request.as_ref().map_or(0, String::len).max(result)
    };
    changes.iter().find_map(|change| match change {
        Change::PutTask(task) | Change::NewTask { task, .. } if longest(task) > limit => {
            Some(task.owner.clone())
        }
        _ => None,
    })
}
