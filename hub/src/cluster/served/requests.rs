//! The requests that other hubs pass on, until they are whole and while they run.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use futures_util::future::AbortHandle;
use parking_lot::Mutex;

use crate::cluster::Process;
use crate::cluster::calls::{About, CallHead};
use crate::cluster::ended::Ended;
use crate::cluster::parts::Arrival;
use crate::quota::BytesPermit;

/// Largest request that is taken, in bytes: more than any that a hub reads.
const LARGEST: usize = 64 << 20;
/// Most calls of other hubs at once.
const MOST: usize = 20_000;
/// Memory in bytes of a call besides its texts.
const CALL: usize = 1 << 10;

/// Calls of other hubs that have not ended, by the process that passed them on and their number there.
#[derive(Default)]
pub(in crate::cluster) struct Served {
    open: Mutex<HashMap<(Process, u64), ServedCall>>,
    /// Calls that have ended: a message that comes twice begins none again.
    ended: Mutex<Ended>,
}

struct ServedCall {
    /// The request, until all of it has come.
    request: Option<(CallHead, Body)>,
    /// Number of the part of the request that comes next.
    next: u64,
    running: Option<AbortHandle>,
    /// Counts its head.
    _held: BytesPermit,
}

impl Drop for ServedCall {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// The body of a request, in the parts in which it came. Counts for the caller until it is read.
#[derive(Default)]
pub(super) struct Body {
    parts: VecDeque<Bytes>,
    size: usize,
    held: BytesPermit,
}

impl Body {
    /// Adds a part. `false` if the caller has no memory for it, or it is too large.
    fn push(&mut self, part: &Bytes) -> bool {
        self.size += part.len();
        if self.size > LARGEST || self.held.grow(part.len()).is_err() {
            return false;
        }
        // A copy: the part shares the block in which it was read.
        self.parts.push_back(Bytes::copy_from_slice(part));
        true
    }

    /// The next part. Whoever reads it counts it.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let part = self.parts.pop_front()?;
        self.held.shrink(part.len());
        Some(part)
    }
}

/// A request of which a part has come.
pub(super) enum Taken {
    /// The call has ended, a part is missing, it is too large, or its caller has no memory for it.
    Refused,
    Partial,
    Whole(Box<CallHead>, Body),
}

impl Served {
    pub(in crate::cluster) fn cancel(&self, from: Process, call: u64) {
        self.end((from, call));
    }

    pub(super) fn end(&self, call: (Process, u64)) {
        self.ended.lock().add(call);
        self.open.lock().remove(&call);
    }

    /// Ends all calls of `process`.
    pub(in crate::cluster) fn lose(&self, process: Process) {
        let mut open = self.open.lock();
        let lost: Vec<_> = open.keys().filter(|(from, _)| *from == process).copied().collect();
        for call in lost {
            self.ended.lock().add(call);
            open.remove(&call);
        }
    }

    pub(in crate::cluster) fn lose_all(&self) {
        let all: Vec<_> = self.open.lock().keys().copied().collect();
        for call in all {
            self.end(call);
        }
    }

    /// Whether a call of `from` has not ended.
    pub(super) fn has(&self, from: Process, call: u64) -> bool {
        self.open.lock().contains_key(&(from, call))
    }

    #[cfg(test)]
    pub(in crate::cluster) fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Takes the head of a call, which counts in the `quota` of its caller. `false` if it is refused.
    pub(in crate::cluster) fn begin(
        &self,
        from: Process,
        call: u64,
        head: CallHead,
        quota: impl Fn(&str) -> BytesPermit,
    ) -> bool {
        let mut open = self.open.lock();
        if open.contains_key(&(from, call)) {
            return true;
        }
        if open.len() >= MOST || self.ended.lock().has((from, call)) {
            return false;
        }
        let mut counted = quota(&head.user);
        let texts: usize = head.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if counted.grow(CALL + head.uri.len() + texts).is_err() {
            return false;
        }
        let body = Body { held: quota(&head.user), ..Body::default() };
        open.insert(
            (from, call),
            ServedCall { request: Some((head, body)), next: 0, running: None, _held: counted },
        );
        true
    }

    /// Takes a part of a request.
    pub(super) fn part(&self, from: Process, about: &About<()>, bytes: &Bytes) -> Taken {
        let mut open = self.open.lock();
        let Some(call) = open.get_mut(&(from, about.call)) else { return Taken::Refused };
        if about.part < call.next {
            return Taken::Partial;
        }
        let Some((_, body)) = call.request.as_mut() else { return Taken::Refused };
        if about.part > call.next || !body.push(bytes) {
            drop(open);
            self.end((from, about.call));
            return Taken::Refused;
        }
        call.next += 1;
        match call.request.take_if(|_| about.last) {
            Some((head, body)) => Taken::Whole(Box::new(head), body),
            None => Taken::Partial,
        }
    }

    /// Whether a part of a request has come.
    pub(super) fn arrival<T>(&self, from: Process, about: &About<T>) -> Arrival {
        match self.open.lock().get(&(from, about.call)) {
            Some(call) if about.part < call.next => Arrival::Taken,
            None if self.ended.lock().has((from, about.call)) => Arrival::Taken,
            None if about.part > 0 => Arrival::Unknown,
            _ => Arrival::Lacks,
        }
    }

    /// Notes that the call runs. `false` if it has ended.
    pub(super) fn run(&self, call: (Process, u64), running: AbortHandle) -> bool {
        let mut open = self.open.lock();
        let call = open.get_mut(&call);
        call.is_some_and(|call| call.running.replace(running).is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
    use crate::telemetry::Metrics;
    use std::sync::Arc;

    #[test]
    fn a_request_of_another_hub_counts_for_its_caller_until_it_is_read() {
        let memory =
            Arc::new(MemoryBudget::new(Some(1 << 30), Metrics::new().unwrap().of_machine().unwrap()));
        let quota = Quota::of_bytes(&memory, ByteKind::Results);
        let of = |user: &str| ByteQuota::new(&quota, user, 1 << 20, "results").empty();
        let from = Process::parse("a.aaaaaa").unwrap();
        let served = Served::default();
        let head = |user: &str| CallHead {
            method: "POST".into(),
            uri: "/".into(),
            headers: vec![("x".into(), "y".repeat(1000))],
            token: "tok".into(),
            user: user.into(),
            address: None,
        };
        let part = |call, part, last, size| {
            served.part(from, &About::new(call, true, (part, last), ()), &vec![0; size].into())
        };
        assert!(served.begin(from, 1, head("alice"), of));
        assert!(quota.taken_by("alice") > 1000);
        assert!(matches!(part(1, 0, false, 300 << 10), Taken::Partial));
        assert!(matches!(part(1, 0, false, 300 << 10), Taken::Partial), "it comes twice");
        assert!(served.begin(from, 2, head("alice"), of));
        assert!(matches!(part(2, 0, false, 800 << 10), Taken::Refused));
        assert!(!served.has(from, 2));
        assert!(served.begin(from, 3, head("bob"), of));
        assert!(matches!(part(3, 0, true, 800 << 10), Taken::Whole(..)));
        let Taken::Whole(_, mut body) = part(1, 1, true, 300 << 10) else { panic!("it is not whole") };
        assert!(quota.taken_by("alice") > 600 << 10);
        while body.next().is_some() {}
        assert!(quota.taken_by("alice") < 2 << 10);
        served.end((from, 1));
        assert_eq!(quota.taken_by("alice"), 0);
    }
}
