//! Which inferences run and which wait. Pure: what is inside is the caller's.

use std::collections::{HashMap, VecDeque};

use wire::TaskId;

/// At most `limit` run, at most `room` wait, in the order in which they came.
#[derive(Debug)]
pub(super) struct AdmissionQueue<W, R> {
    limit: usize,
    room: usize,
    paused: bool,
    closed: bool,
    waiting: VecDeque<(TaskId, W)>,
    running: HashMap<TaskId, R>,
}

/// What becomes of one that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<W> {
    /// It waits; [`AdmissionQueue::next`] tells when it may run.
    Waits,
    /// There is no room.
    Full(W),
    /// No new ones are taken.
    Closed(W),
}

impl<W, R> AdmissionQueue<W, R> {
    pub(super) fn new(limit: usize, room: usize) -> Self {
        let (waiting, running) = (VecDeque::new(), HashMap::new());
        Self { limit, room, paused: false, closed: false, waiting, running }
    }

    /// Takes one in.
    pub(super) fn admit(&mut self, id: TaskId, work: W) -> Admission<W> {
        if self.closed {
            return Admission::Closed(work);
        }
        // What can run at once does not wait, so a queue of no room still serves.
        if self.waiting.len() >= self.room.saturating_add(self.free()) {
            return Admission::Full(work);
        }
        self.waiting.push_back((id, work));
        Admission::Waits
    }

    fn free(&self) -> usize {
        if self.paused { 0 } else { self.limit.saturating_sub(self.running.len()) }
    }

    /// Whether one that comes now has to wait, if it is taken in.
    pub(super) fn makes_wait(&self) -> bool {
        !self.closed && self.waiting.len() >= self.free()
    }

    /// The next that may run. Who takes it [`start`](Self::start)s it.
    pub(super) fn next(&mut self) -> Option<(TaskId, W)> {
        if self.paused || self.running.len() >= self.limit {
            return None;
        }
        self.waiting.pop_front()
    }

    /// It runs; `handle` is how to stop it.
    pub(super) fn start(&mut self, id: TaskId, handle: R) {
        self.running.insert(id, handle);
    }

    /// It has ended.
    pub(super) fn ended(&mut self, id: &TaskId) {
        self.running.remove(id);
    }

    /// Takes one out of the queue.
    pub(super) fn withdraw(&mut self, id: &TaskId) -> Option<W> {
        let at = self.waiting.iter().position(|(waiting, _)| waiting == id)?;
        self.waiting.remove(at).map(|(_, work)| work)
    }

    /// The handle of one that runs.
    pub(super) fn handle(&mut self, id: &TaskId) -> Option<&mut R> {
        self.running.get_mut(id)
    }

    /// The handles of all that run.
    pub(super) fn handles(&mut self) -> impl Iterator<Item = &mut R> {
        self.running.values_mut()
    }

    /// Takes no more, and gives those that wait.
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

    /// New bounds; those that run and wait stay.
    pub(super) fn resize(&mut self, limit: usize, room: usize) {
        (self.limit, self.room) = (limit, room);
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

    fn admitted(admission: &mut AdmissionQueue<u32, ()>, n: u32) -> bool {
        admission.admit(id(n), n) == Admission::Waits
    }

    fn run(admission: &mut AdmissionQueue<u32, ()>) -> Vec<u32> {
        std::iter::from_fn(|| {
            let (id, n) = admission.next()?;
            admission.start(id, ());
            Some(n)
        })
        .collect()
    }

    /// F79, P7: so many run, so many wait in order, and one more finds no room.
    #[test]
    fn at_most_the_limit_runs_the_rest_waits_in_order_and_one_more_finds_no_room() {
        let mut admission = AdmissionQueue::new(2, 2);
        assert!((0..4).all(|n| admitted(&mut admission, n)));
        assert_eq!(admission.admit(id(4), 4), Admission::Full(4));
        assert_eq!(run(&mut admission), [0, 1]);
        assert_eq!(admission.admit(id(4), 4), Admission::Full(4));
        admission.ended(&id(1));
        assert_eq!(run(&mut admission), [2]);
        assert!(admitted(&mut admission, 4));
        assert_eq!((admission.running(), admission.waiting()), (2, 2));
    }

    #[test]
    fn a_queue_of_no_room_still_serves_what_can_run_at_once() {
        let mut admission = AdmissionQueue::new(1, 0);
        assert!(admitted(&mut admission, 0));
        assert_eq!(run(&mut admission), [0]);
        assert_eq!(admission.admit(id(1), 1), Admission::Full(1));
    }

    #[test]
    fn while_paused_nothing_starts_and_the_queue_keeps_its_bound() {
        let mut admission = AdmissionQueue::new(4, 1);
        admission.set_paused(true);
        assert!(admitted(&mut admission, 0));
        assert_eq!(admission.admit(id(1), 1), Admission::Full(1));
        assert!(run(&mut admission).is_empty());
        admission.set_paused(false);
        assert_eq!(run(&mut admission), [0]);
    }

    #[test]
    fn a_closed_gate_gives_back_what_waits_and_takes_nothing() {
        let mut admission = AdmissionQueue::new(1, 9);
        assert!((0..3).all(|n| admitted(&mut admission, n)));
        assert_eq!(run(&mut admission), [0]);
        assert_eq!(admission.close(), [1, 2]);
        assert_eq!(admission.admit(id(3), 3), Admission::Closed(3));
        assert_eq!(admission.running(), 1);
    }

    #[test]
    fn one_that_waits_can_be_withdrawn() {
        let mut admission = AdmissionQueue::new(1, 9);
        assert!((0..3).all(|n| admitted(&mut admission, n)));
        assert_eq!(admission.withdraw(&id(1)), Some(1));
        assert_eq!(admission.withdraw(&id(1)), None);
        run(&mut admission);
        admission.ended(&id(0));
        assert_eq!(run(&mut admission), [2]);
    }
}
