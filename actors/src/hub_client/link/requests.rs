//! Puts tasks together from their pieces, within a limit of bytes over all tasks. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// Longest data of a task in bytes, as of an event on the SSE channel.
const MAX_REQUEST: usize = 64 << 20;
/// Bytes of incomplete tasks, above which only the oldest of them gets more credit: that of the requests that may wait.
const MAX_REQUESTS: usize = 256 << 20;

/// The tasks that have come in part.
#[derive(Debug, Default)]
pub(super) struct Requests {
    parts: HashMap<Arc<str>, Part>,
    /// The tasks in `parts` by their numbers, oldest first.
    order: BTreeMap<u64, Arc<str>>,
    last_number: u64,
    bytes: usize,
    /// Numbers of the tasks with pieces that came above the limit, for which no credit was granted yet.
    withheld: BTreeSet<u64>,
    /// A task that has come whole, and the lengths of its pieces for which no credit was granted yet.
    whole: Option<(Arc<str>, VecDeque<usize>)>,
}

/// What has come of a task.
#[derive(Debug, Default)]
struct Part {
    number: u64,
    data: Vec<u8>,
    /// Lengths of the pieces for which no credit was granted yet: as many as the first credit allows. They go with the task.
    withheld: VecDeque<usize>,
}

/// Tasks that may be incomplete: the first credit of each, half a gigabyte together, is granted whatever the others hold. A hub
/// sends parts of eight at a time, unless this end grants them no more credit.
const MAX_PARTS: usize = 2048;

/// Why a piece is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Its task is too long.
    TooLong,
    /// Too many tasks are incomplete.
    TooMany,
}

impl Requests {
    /// Adds a piece. Returns the data of the task if it is the last one.
    pub(super) fn add(
        &mut self,
        task: &Arc<str>,
        bytes: &Bytes,
        is_last: bool,
    ) -> Result<Option<Vec<u8>>, Refused> {
        if is_last && !self.parts.contains_key(task) {
            return Ok(Some(bytes.to_vec()));
        }
        if self.parts.len() >= MAX_PARTS && !self.parts.contains_key(task) {
            return Err(Refused::TooMany);
        }
        let part = self.parts.entry(task.clone()).or_insert_with(|| {
            self.last_number += 1;
            self.order.insert(self.last_number, task.clone());
            Part { number: self.last_number, ..Part::default() }
        });
        if part.data.len() + bytes.len() > MAX_REQUEST {
            return Err(Refused::TooLong);
        }
        part.data.extend_from_slice(bytes);
        part.withheld.push_back(bytes.len());
        self.withheld.insert(part.number);
        self.bytes += bytes.len();
        if !is_last {
            return Ok(None);
        }
        let part = self.take(task);
        Ok(part.map(|part| {
            self.whole = Some((task.clone(), part.withheld));
            part.data
        }))
    }

    /// Removes a task that came in part.
    pub(super) fn remove(&mut self, task: &str) {
        self.take(task);
    }

    fn take(&mut self, task: &str) -> Option<Part> {
        let part = self.parts.remove(task)?;
        self.bytes -= part.data.len();
        self.order.remove(&part.number);
        self.withheld.remove(&part.number);
        Some(part)
    }

    /// The next piece for which credit may be granted: its task, and its length. Asked until there is none after each piece.
    pub(super) fn granted(&mut self) -> Option<(Arc<str>, usize)> {
        if let Some((task, withheld)) = &mut self.whole {
            if let Some(length) = withheld.pop_front() {
                return Some((task.clone(), length));
            }
            self.whole = None;
        }
        let number = *self.withheld.first()?;
        let (oldest, task) = self.order.first_key_value()?;
        let task = if *oldest == number {
            task
        } else if self.bytes <= MAX_REQUESTS {
            self.order.get(&number)?
        } else {
            return None;
        };
        let part = self.parts.get_mut(task)?;
        let length = part.withheld.pop_front()?;
        if part.withheld.is_empty() {
            self.withheld.remove(&number);
        }
        Some((task.clone(), length))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::procfs::thread_time;

    use super::*;

    /// P7: many large tasks that come at once hold a bounded memory, and all of them arrive.
    #[test]
    fn tasks_beyond_the_limit_wait_and_arrive() {
        const PIECE: usize = 1 << 20;
        const WINDOW: usize = 4;
        let names: Vec<Arc<str>> = (0..16).map(|task| format!("t{task}").into()).collect();
        let (mut requests, piece) = (Requests::default(), Bytes::from(vec![b'a'; PIECE]));
        let (mut sent, mut credit, mut whole) = ([0; 16], [WINDOW; 16], 0);
        while whole < names.len() {
            let before = sent;
            for (at, name) in names.iter().enumerate() {
                while credit[at] > 0 && sent[at] < 64 {
                    sent[at] += 1;
                    credit[at] -= 1;
                    let data = requests.add(name, &piece, sent[at] == 64).unwrap();
                    assert!(data.as_ref().is_none_or(|data| data.len() == 64 * PIECE));
                    whole += usize::from(data.is_some());
                    assert!(requests.bytes <= MAX_REQUESTS + 16 * WINDOW * PIECE, "{}", requests.bytes);
                    while let Some((task, length)) = requests.granted() {
                        assert_eq!(length, PIECE);
                        credit[names.iter().position(|name| *name == task).unwrap()] += 1;
                    }
                }
            }
            assert_ne!(before, sent, "no task gets on");
        }
        assert!(requests.parts.is_empty() && requests.order.is_empty() && requests.withheld.is_empty());
    }

    /// A24: a hub sends small pieces above the limit and cancels their task, again and again. Nothing stays of them, and each
    /// piece costs the same.
    #[test]
    fn nothing_stays_of_cancelled_tasks() {
        let (mut requests, piece) = (Requests::default(), Bytes::from(vec![b'a'; MAX_REQUEST]));
        for task in 0..4 {
            requests.add(&format!("t{task}").into(), &piece, false).unwrap();
            assert!(requests.granted().is_some() && requests.granted().is_none());
        }
        assert_eq!(requests.add(&"more".into(), &Bytes::from_static(b"x"), false), Ok(None));
        assert_eq!(requests.granted(), None);
        let (small, task) = (Bytes::from_static(b"x"), Arc::from("f"));
        let start = thread_time();
        for _ in 0..25 {
            for _ in 0..4000 {
                assert_eq!(requests.add(&task, &small, false), Ok(None));
                assert_eq!(requests.granted(), None);
            }
            assert_eq!(requests.parts[&task].withheld.len(), 4000);
            requests.remove(&task);
        }
        // 100,000 pieces. A scan of all that came before took minutes.
        let took = thread_time().saturating_sub(start);
        assert!(took < Duration::from_secs(10), "{took:?}");
        let left: usize = requests.parts.values().map(|part| part.withheld.len()).sum();
        assert_eq!((requests.parts.len(), requests.order.len(), requests.withheld.len(), left), (5, 5, 1, 1));
        requests.remove("t0");
        assert_eq!(requests.granted(), Some(("more".into(), 1)));
        assert_eq!(requests.granted(), None);
    }

    #[test]
    fn a_task_above_the_limit_is_refused() {
        let (mut requests, piece) = (Requests::default(), Bytes::from(vec![0; MAX_REQUEST]));
        assert_eq!(requests.add(&"t".into(), &piece, false), Ok(None));
        assert_eq!(requests.add(&"t".into(), &Bytes::from_static(b"x"), true), Err(Refused::TooLong));
    }

    /// A24: a hub has the registrar keep no more than the first credit of so many tasks.
    #[test]
    fn parts_of_too_many_tasks_are_refused() {
        let (mut requests, piece) = (Requests::default(), Bytes::from_static(b"x"));
        for task in 0..MAX_PARTS {
            assert_eq!(requests.add(&format!("t{task}").into(), &piece, false), Ok(None));
        }
        assert_eq!(requests.add(&"more".into(), &piece, false), Err(Refused::TooMany));
        assert_eq!(requests.add(&"t0".into(), &piece, true).map(|data| data.is_some()), Ok(true));
        assert_eq!(requests.add(&"more".into(), &piece, false), Ok(None));
    }
}
