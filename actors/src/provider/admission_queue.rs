//! The bounded queue of a provider. Pure: the type of a waiting and of a running task is the caller's.

use std::collections::{HashMap, VecDeque};

use wire::TaskId;

/// At most `limit` tasks run and at most `max_waiting` wait, first in, first out.
#[derive(Debug)]
pub(super) struct AdmissionQueue<W, R> {
    limit: usize,
    max_waiting: usize,
    paused: bool,
    closed: bool,
    waiting: VecDeque<(TaskId, W)>,
    running: HashMap<TaskId, R>,
}

/// The result of [`AdmissionQueue::admit`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<W> {
    /// The task waits until [`AdmissionQueue::next`] returns it.
    Queued,
    Full(W),
    Closed(W),
}

impl<W, R> AdmissionQueue<W, R> {
    pub(super) fn new(limit: usize, max_waiting: usize) -> Self {
        let (waiting, running) = (VecDeque::new(), HashMap::new());
        Self { limit, max_waiting, paused: false, closed: false, waiting, running }
    }

    pub(super) fn admit(&mut self, id: TaskId, work: W) -> Admission<W> {
        if self.closed {
            return Admission::Closed(work);
        }
        // A task that can run at once does not count as waiting, so `max_waiting` may be 0.
        if self.waiting.len() >= self.max_waiting.saturating_add(self.free()) {
            return Admission::Full(work);
        }
        self.waiting.push_back((id, work));
        Admission::Queued
    }

    fn free(&self) -> usize {
        if self.paused { 0 } else { self.limit.saturating_sub(self.running.len()) }
    }

    /// Whether a task that is admitted now cannot run at once.
    pub(super) fn must_wait(&self) -> bool {
        !self.closed && self.waiting.len() >= self.free()
    }

    /// Takes the next task that may run; the caller [`start`](Self::start)s it.
    pub(super) fn next(&mut self) -> Option<(TaskId, W)> {
        if self.paused || self.running.len() >= self.limit {
            return None;
        }
        self.waiting.pop_front()
    }

    pub(super) fn start(&mut self, id: TaskId, running: R) {
        self.running.insert(id, running);
    }

    pub(super) fn end(&mut self, id: &TaskId) {
        self.running.remove(id);
    }

    /// Removes a waiting task.
    pub(super) fn withdraw(&mut self, id: &TaskId) -> Option<W> {
        let at = self.waiting.iter().position(|(waiting, _)| waiting == id)?;
        self.waiting.remove(at).map(|(_, work)| work)
    }

    pub(super) fn running_mut(&mut self, id: &TaskId) -> Option<&mut R> {
        self.running.get_mut(id)
    }

    pub(super) fn all_running_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.running.values_mut()
    }

    /// Admits no more tasks, and returns the waiting ones.
    pub(super) fn close(&mut self) -> Vec<W> {
        self.closed = true;
        self.waiting.drain(..).map(|(_, work)| work).collect()
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Changes the limits. Tasks that run and wait above them stay.
    pub(super) fn resize(&mut self, limit: usize, max_waiting: usize) {
        (self.limit, self.max_waiting) = (limit, max_waiting);
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> TaskId {
        TaskId::parse(format!("t{n}")).unwrap()
    }

    fn admitted(queue: &mut AdmissionQueue<u32, ()>, n: u32) -> bool {
        queue.admit(id(n), n) == Admission::Queued
    }

    fn run(queue: &mut AdmissionQueue<u32, ()>) -> Vec<u32> {
        std::iter::from_fn(|| {
            let (id, n) = queue.next()?;
            queue.start(id, ());
            Some(n)
        })
        .collect()
    }

    /// F79, P7: at most `limit` tasks run and at most `max_waiting` wait, in order; one more is refused.
    #[test]
    fn running_and_waiting_tasks_are_bounded_and_keep_their_order() {
        let mut queue = AdmissionQueue::new(2, 2);
        assert!((0..4).all(|n| admitted(&mut queue, n)));
        assert_eq!(queue.admit(id(4), 4), Admission::Full(4));
        assert_eq!(run(&mut queue), [0, 1]);
        assert_eq!(queue.admit(id(4), 4), Admission::Full(4));
        queue.end(&id(1));
        assert_eq!(run(&mut queue), [2]);
        assert!(admitted(&mut queue, 4));
        assert_eq!((queue.running(), queue.waiting()), (2, 2));
    }

    #[test]
    fn a_queue_with_max_waiting_0_admits_tasks_that_run_at_once() {
        let mut queue = AdmissionQueue::new(1, 0);
        assert!(admitted(&mut queue, 0));
        assert_eq!(run(&mut queue), [0]);
        assert_eq!(queue.admit(id(1), 1), Admission::Full(1));
    }

    #[test]
    fn a_paused_queue_starts_no_task_and_keeps_its_limit() {
        let mut queue = AdmissionQueue::new(4, 1);
        queue.set_paused(true);
        assert!(admitted(&mut queue, 0));
        assert_eq!(queue.admit(id(1), 1), Admission::Full(1));
        assert!(run(&mut queue).is_empty());
        queue.set_paused(false);
        assert_eq!(run(&mut queue), [0]);
    }

    #[test]
    fn a_closed_queue_returns_waiting_tasks_and_admits_none() {
        let mut queue = AdmissionQueue::new(1, 9);
        assert!((0..3).all(|n| admitted(&mut queue, n)));
        assert_eq!(run(&mut queue), [0]);
        assert_eq!(queue.close(), [1, 2]);
        assert_eq!(queue.admit(id(3), 3), Admission::Closed(3));
        assert_eq!(queue.running(), 1);
    }

    #[test]
    fn a_waiting_task_can_be_withdrawn() {
        let mut queue = AdmissionQueue::new(1, 9);
        assert!((0..3).all(|n| admitted(&mut queue, n)));
        assert_eq!(queue.withdraw(&id(1)), Some(1));
        assert_eq!(queue.withdraw(&id(1)), None);
        run(&mut queue);
        queue.end(&id(0));
        assert_eq!(run(&mut queue), [2]);
    }
}
