//! Puts tasks together from their pieces, within a limit of bytes over all tasks. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

/// Longest data of a task in bytes, as of an event on the SSE channel.
const MAX_REQUEST: usize = 64 << 20;
/// Bytes of incomplete tasks, above which only the oldest of them gets more credit: that of the requests that may wait.
const MAX_REQUESTS: usize = 256 << 20;

/// The tasks that have come in part.
#[derive(Debug, Default)]
pub(super) struct Requests {
    parts: HashMap<Arc<str>, Vec<u8>>,
    /// The tasks in `parts`, oldest first.
    order: VecDeque<Arc<str>>,
    bytes: usize,
    /// Lengths of the pieces that came above the limit, for which no credit was granted yet.
    withheld: VecDeque<(Arc<str>, usize)>,
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
            self.order.push_back(task.clone());
            Vec::new()
        });
        if part.len() + bytes.len() > MAX_REQUEST {
            return Err(Refused::TooLong);
        }
        part.extend_from_slice(bytes);
        self.bytes += bytes.len();
        self.withheld.push_back((task.clone(), bytes.len()));
        Ok(if is_last { self.remove(task) } else { None })
    }

    /// Removes a task that came in part.
    pub(super) fn remove(&mut self, task: &str) -> Option<Vec<u8>> {
        let part = self.parts.remove(task)?;
        self.bytes -= part.len();
        self.order.retain(|other| **other != *task);
        Some(part)
    }

    /// The next piece for which credit may be granted: its task, and its length.
    pub(super) fn granted(&mut self) -> Option<(Arc<str>, usize)> {
        let at = if self.bytes <= MAX_REQUESTS {
            0
        } else {
            let oldest = self.order.front();
            self.withheld
                .iter()
                .position(|(task, _)| Some(task) == oldest || !self.parts.contains_key(task))?
        };
        self.withheld.remove(at)
    }
}

#[cfg(test)]
mod tests {
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
