//! The open tasks that a caller may see.

use tokio::sync::watch;

use super::chunks::ChunkBatch;
use super::open_task::OpenTask;
use super::table::{DurableTasks, TaskTable};
use crate::model::{Caller, DurableTask, Role};
use crate::store::ListCursor;
use crate::telemetry::{Counts, TaskView};

impl DurableTasks {
    /// The `limit` newest open tasks older than `before` that `caller` may see, newest first.
    pub(crate) fn list(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        let table = self.table.lock();
        let listed = match caller.role {
            Role::Admin => Some(&table.listed),
            Role::Member => table.listed_by_owner.get(&caller.user),
        };
        let listed = listed.into_iter().flat_map(|listed| listed.range(..before).rev()).take(limit);
        listed.filter_map(|cursor| Some(table.view(table.open_task(&cursor.id)?))).collect()
    }

    /// The number of waiting and running tasks that `caller` may see.
    pub(crate) fn counts(&self, caller: &Caller) -> Counts {
        let table = self.table.lock();
        match caller.role {
            Role::Admin => table.counts.values().copied().fold(Counts::default(), Counts::plus),
            Role::Member => table.counts.get(&caller.user).copied().unwrap_or_default(),
        }
    }

    /// The view of an open task, if `caller` may see it.
    pub(crate) fn view(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        let table = self.table.lock();
        table.visible(caller, id).map(|open| table.view(open))
    }

    /// A batch of the answer's chunks from chunk `from` on, empty if there is none yet, and a receiver of changes. `None` if
    /// the task is not open.
    pub(crate) fn chunks_from(
        &self,
        caller: &Caller,
        id: &str,
        from: usize,
    ) -> Option<(ChunkBatch, watch::Receiver<()>)> {
        let table = self.table.lock();
        let open = table.visible(caller, id)?;
        Some((open.chunks.batch(from), open.changed.subscribe()))
    }

    /// The number of an open task, if `caller` may see it.
    pub(super) fn number(&self, caller: &Caller, id: &str) -> Option<u64> {
        let table = self.table.lock();
        table.visible(caller, id)?;
        table.numbers.get(id).copied()
    }
}

impl TaskTable {
    fn open_task(&self, id: &str) -> Option<&OpenTask> {
        self.open.get(self.numbers.get(id)?)
    }

    /// The open task, if `caller` is its owner or an admin.
    fn visible(&self, caller: &Caller, id: &str) -> Option<&OpenTask> {
        let may_see = |open: &&OpenTask| caller.role == Role::Admin || caller.user == open.task.owner;
        self.open_task(id).filter(may_see)
    }

    fn view(&self, open: &OpenTask) -> TaskView {
        let member = open.member.as_ref().filter(|member| member.through.is_none());
        let number = self.numbers.get(&open.task.id);
        TaskView {
            position: number.and_then(|number| self.queues.position(&open.task.target, *number)),
            pool_name: member.and_then(|member| member.pool.clone()),
            model: member.map(|member| member.model.clone()),
            ..TaskView::of(&open.task)
        }
    }
}

impl TaskView {
    /// The view of a task's record.
    pub(crate) fn of(task: &DurableTask) -> Self {
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
            tokens: task.tokens,
            created_at: task.created_at,
            updated_at: task.updated_at,
        }
    }
}
