//! One call of the HTTP API: its id, and what the headers of its answer say of it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::random;

/// Longest `x-request-id` that is taken from a caller.
const LONGEST_ID: usize = 128;
/// How ids of the hub's own begin: those of a task, of an inference and of a call. One of these from a caller would make its
/// call come up where somebody looks for another's.
const OWN_IDS: [&str; 3] = ["task-", "inf-", "req-"];
/// So much of a session's id names a publisher in the log: enough to tell it from others, and not all of it.
const LABEL: usize = 13;

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// One call, from its request's head on.
pub(crate) struct Trace {
    id: String,
    /// Where its caller is.
    address: Option<IpAddr>,
    begin: Instant,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    row: Option<String>,
    queue: Option<Duration>,
    first: Option<Duration>,
    watched: bool,
}

impl Trace {
    /// A call of a caller at `address` begins; `named` is the id that it gave it, taken where it is sane.
    pub(crate) fn new(named: Option<&str>, address: Option<IpAddr>) -> Arc<Self> {
        let named = named.filter(|id| is_sane(id));
        let id = named.map_or_else(|| random::id("req"), str::to_owned);
        Arc::new(Self { id, address, begin: Instant::now(), marks: Mutex::default() })
    }

    /// Runs a handler of the call: within it [`Trace::current`] is this one.
    pub(crate) async fn run<T>(self: &Arc<Self>, handler: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), handler).await
    }

    /// The call whose handler runs now.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where its caller is.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// How long it has taken so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// An inference has begun, which says itself how it ends.
    pub(crate) fn watch(&self) {
        self.marks.lock().watched = true;
    }

    /// Whether an inference says how the call ends.
    pub(crate) fn is_watched(&self) -> bool {
        self.marks.lock().watched
    }

    /// It was sent to a member. `row` is its name, where the caller may see it.
    pub(crate) fn sent(&self, row: Option<&str>) {
        let mut marks = self.marks.lock();
        marks.row = row.map(str::to_owned);
        marks.queue = Some(self.elapsed());
    }

    /// Its first content came.
    pub(crate) fn first(&self) {
        self.marks.lock().first.get_or_insert(self.elapsed());
    }

    /// The row that it was sent to last.
    pub(crate) fn row(&self) -> Option<String> {
        self.marks.lock().row.clone()
    }

    /// The value of `server-timing`, in ms: how long the call waited to be sent out, for its first content, and in all,
    /// where the answer is `whole`.
    pub(crate) fn timing(&self, whole: bool) -> String {
        let marks = self.marks.lock();
        let now = self.elapsed();
        let first = marks.first.or((!whole && !marks.watched).then_some(now));
        let mut out = String::new();
        for (name, time) in [("queue", marks.queue), ("first", first), ("total", whole.then_some(now))] {
            let Some(time) = time else { continue };
            let comma = if out.is_empty() { "" } else { ", " };
            // Writing to a string never fails.
            let _ = write!(out, "{comma}{name};dur={:.1}", time.as_secs_f64() * 1000.0);
        }
        out
    }
}

/// Whether an id of a caller's can stand in a header and in a log line as it is, and is none of ours.
fn is_sane(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_own =
        OWN_IDS.iter().any(|own| id.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own)));
    !is_own && (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain)
}

/// An address in the log.
pub(crate) fn place(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}

/// A publisher in the log: the beginning of its session's id.
pub(crate) fn label(session: Option<&str>) -> &str {
    session.map_or("-", |session| session.get(..LABEL).unwrap_or(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_taken_from_a_caller() {
        let longest = "a".repeat(LONGEST_ID);
        for sane in ["7", "req_A.b-c", longest.as_str()] {
            assert_eq!(Trace::new(Some(sane), None).id(), sane);
        }
        let longer = format!("{longest}a");
        let own = ["task", "inf", "req"].map(random::id);
        let odd = ["", "a b", "a\nb", "a\"b", "ü", "a/b", longer.as_str(), "task-", "inf-x", "TASK-1"];
        for odd in odd.into_iter().chain(own.iter().map(String::as_str)) {
            let trace = Trace::new(Some(odd), None);
            assert!(trace.id().starts_with("req-") && trace.id() != odd, "{odd}: {}", trace.id());
        }
    }

    #[tokio::test]
    async fn timings_are_told_as_far_as_they_are_known() {
        tokio::time::pause();
        let trace = Trace::new(None, None);
        tokio::time::advance(Duration::from_micros(1200)).await;
        assert_eq!(trace.timing(true), "total;dur=1.2");
        assert_eq!(trace.timing(false), "first;dur=1.2");
        trace.watch();
        assert_eq!(trace.timing(false), "");
        trace.sent(Some("a"));
        tokio::time::advance(Duration::from_millis(30)).await;
        trace.first();
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(trace.timing(false), "queue;dur=1.2, first;dur=31.2");
        assert_eq!(trace.timing(true), "queue;dur=1.2, first;dur=31.2, total;dur=34.2");
        assert_eq!(trace.row().as_deref(), Some("a"));
    }
}
