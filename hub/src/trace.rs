//! One call of the HTTP API: its id, and the times in the headers of its response.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::random;

/// Longest `x-request-id` of a caller, in bytes.
const MAX_ID: usize = 128;
/// Prefixes of the hub's own ids. A caller's id must not have one: a search for a task would find its call.
const OWN_PREFIXES: [&str; 3] = ["task-", "inf-", "req-"];
/// Bytes of a session's id in the log: enough to tell it from others, and not all of it.
const LABEL: usize = 13;

tokio::task_local! {
    static CURRENT: Arc<Trace>;
}

/// One call, from the head of its request on.
pub(crate) struct Trace {
    id: String,
    address: Option<IpAddr>,
    start: Instant,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// The name of the row of the last dispatch.
    row: Option<String>,
    dispatched: Option<Duration>,
    first_content: Option<Duration>,
    has_inference: bool,
}

impl Trace {
    /// Begins a call of a caller at `address`, with the caller's id if that is valid.
    pub(crate) fn new(given_id: Option<&str>, address: Option<IpAddr>) -> Arc<Self> {
        let given_id = given_id.filter(|id| is_valid(id));
        let id = given_id.map_or_else(|| random::id("req"), str::to_owned);
        Arc::new(Self { id, address, start: Instant::now(), progress: Mutex::default() })
    }

    /// Runs a handler of the call, within which [`Trace::current`] returns this trace.
    pub(crate) async fn run<T>(self: &Arc<Self>, handler: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), handler).await
    }

    /// The call whose handler is running.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Records that the call has an inference, which logs the end itself.
    pub(crate) fn set_has_inference(&self) {
        self.progress.lock().has_inference = true;
    }

    pub(crate) fn has_inference(&self) -> bool {
        self.progress.lock().has_inference
    }

    /// Records a dispatch. `row` is the name of the row, if the caller may see it.
    pub(crate) fn set_dispatched(&self, row: Option<&str>) {
        let mut progress = self.progress.lock();
        progress.row = row.map(str::to_owned);
        progress.dispatched = Some(self.elapsed());
    }

    /// Records the first content.
    pub(crate) fn set_first_content(&self) {
        self.progress.lock().first_content.get_or_insert(self.elapsed());
    }

    /// The row of the last dispatch, if the caller may see it.
    pub(crate) fn row(&self) -> Option<String> {
        self.progress.lock().row.clone()
    }

    /// The value of `server-timing`, in ms: the times to the dispatch, to the first content, and in all if the response is
    /// complete.
    pub(crate) fn timing(&self, is_complete: bool) -> String {
        let progress = self.progress.lock();
        let now = self.elapsed();
        let first = progress.first_content.or((!is_complete && !progress.has_inference).then_some(now));
        let mut out = String::new();
        for (name, time) in
            [("queue", progress.dispatched), ("first", first), ("total", is_complete.then_some(now))]
        {
            let Some(time) = time else { continue };
            let comma = if out.is_empty() { "" } else { ", " };
            // Writing to a string never fails.
            let _ = write!(out, "{comma}{name};dur={:.1}", time.as_secs_f64() * 1000.0);
        }
        out
    }
}

/// Whether a caller's id is safe in headers and log lines, and has none of the hub's prefixes in any case.
fn is_valid(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let starts_with = |own: &&str| id.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own));
    !OWN_PREFIXES.iter().any(starts_with) && (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_plain)
}

/// The address as in log lines.
pub(crate) fn address_label(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "-".to_owned(), |address| address.to_string())
}

/// The publisher as in log lines: the start of its session's id.
pub(crate) fn session_label(session: Option<&str>) -> &str {
    session.map_or("-", |session| session.get(..LABEL).unwrap_or(session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_valid_request_id_of_a_caller_is_used() {
        let longest = "a".repeat(MAX_ID);
        for valid in ["7", "req_A.b-c", longest.as_str()] {
            assert_eq!(Trace::new(Some(valid), None).id(), valid);
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
    async fn the_timing_contains_only_known_times() {
        tokio::time::pause();
        let trace = Trace::new(None, None);
        tokio::time::advance(Duration::from_micros(1200)).await;
        assert_eq!(trace.timing(true), "total;dur=1.2");
        assert_eq!(trace.timing(false), "first;dur=1.2");
        trace.set_has_inference();
        assert_eq!(trace.timing(false), "");
        trace.set_dispatched(Some("a"));
        tokio::time::advance(Duration::from_millis(30)).await;
        trace.set_first_content();
        tokio::time::advance(Duration::from_millis(3)).await;
        assert_eq!(trace.timing(false), "queue;dur=1.2, first;dur=31.2");
        assert_eq!(trace.timing(true), "queue;dur=1.2, first;dur=31.2, total;dur=34.2");
        assert_eq!(trace.row().as_deref(), Some("a"));
    }
}
