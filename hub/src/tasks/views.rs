//! Who sees what of the open tasks.

use super::open::Peek;
use super::table::{DurableTasks, TaskTable};
use crate::model::{Caller, DurableTask, Role};
use crate::store::ListCursor;
use crate::telemetry::{Counts, TaskView};

impl DurableTasks {
    /// The open tasks that `caller` may see before `before`, newest first, at most `limit`.
    pub fn list(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        let book = self.book.lock();
        let listed = match caller.role {
            Role::Admin => Some(&book.listed),
            Role::Member => book.listed_of.get(&caller.user),
        };
        let seen = listed.into_iter().flat_map(|listed| listed.range(..before).rev()).take(limit);
        seen.filter_map(|cursor| book.view(*book.numbers.get(&cursor.id)?)).collect()
    }

    /// How many tasks run and wait of those that `caller` may see.
    pub fn counts(&self, caller: &Caller) -> Counts {
        let book = self.book.lock();
        match caller.role {
            Role::Admin => book.counts.values().copied().fold(Counts::default(), Counts::plus),
            Role::Member => book.counts.get(&caller.user).copied().unwrap_or_default(),
        }
    }

    /// One of them.
    pub fn view(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        let book = self.book.lock();
        let number = *book.numbers.get(id)?;
        book.open.get(&number).filter(|open| may_see(caller, &open.task))?;
        book.view(number)
    }

    /// Some of what came of the task's answer, from chunk `from` on.
    pub fn peek(&self, caller: &Caller, id: &str, from: usize) -> Peek {
        let book = self.book.lock();
        let open = book.numbers.get(id).and_then(|number| book.open.get(number));
        match open.filter(|open| may_see(caller, &open.task)) {
            Some(open) => Peek::Open(open.chunks.batch(from), open.changed.subscribe()),
            None => Peek::Closed,
        }
    }

    /// The number of an open task.
    pub(super) fn number(&self, caller: &Caller, id: &str) -> Option<u64> {
        let book = self.book.lock();
        let number = *book.numbers.get(id)?;
        book.open.get(&number).filter(|open| may_see(caller, &open.task)).map(|_| number)
    }
}

impl TaskTable {
    fn view(&self, number: u64) -> Option<TaskView> {
        let open = self.open.get(&number)?;
        let taker = open.taker.as_ref().filter(|taker| taker.through.is_none());
        Some(TaskView {
            position: self.lines.position(&open.task.target, number),
            pool_name: taker.and_then(|taker| taker.pool.clone()),
            model: taker.map(|taker| taker.model.clone()),
            ..TaskView::of(&open.task)
        })
    }
}

/// Its owner and admins.
pub(super) fn may_see(caller: &Caller, task: &DurableTask) -> bool {
    caller.role == Role::Admin || caller.user == task.owner
}

impl TaskView {
    /// A task as its record has it.
    pub fn of(task: &DurableTask) -> Self {
        Self {
            id: task.id.clone(),
            status: task.state,
            llm: task.target.clone(),
            pool_name: None,
            llm_name: task.llm.clone(),
            model: None,
            streaming: task.streaming,
            durable: true,
            worker: task.session.clone(),
            owner_id: task.owner.clone(),
            position: None,
            error: task.error.clone(),
            code: task.code.clone(),
            created_at: task.created_at,
            updated_at: task.updated_at,
        }
    }
}
