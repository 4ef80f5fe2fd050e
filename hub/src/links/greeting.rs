//! The hub's first frame on a connection of a link.

use bytes::Bytes;
use wire::Features;
use wire::link::{Frame, Hello, Tables};

/// The first frame of a connection.
pub(crate) struct Greeting {
    /// The hello.
    pub(crate) frame: Bytes,
    /// Number of tasks in it.
    tasks: usize,
}

impl Greeting {
    /// The hello to a registrar that named the features `offered`, with the `tasks` of the hub's end.
    pub(super) fn new(stream_id: &str, offered: &str, tasks: Tables) -> Self {
        let features = Features::ALL.names().chain(events_of_old(offered)).map(str::to_owned).collect();
        let count = tasks.len();
        let hello = Hello { features, stream_id: stream_id.to_owned(), tasks };
        Self { frame: Frame::Hello(hello.to_json()).encode(), tasks: count }
    }

    /// Longest frame in bytes that answers it. A resume names no task that the hello does not name, with two numbers that
    /// may be 19 digits longer.
    pub(crate) fn max_answer(&self) -> usize {
        self.frame.len() + 40 * self.tasks + (1 << 10)
    }
}

/// The former feature `result-stream`, if a registrar offers it: without it in the hello, such a registrar sends a streamed
/// answer as chunks also on a link, where a task has one body.
fn events_of_old(offered: &str) -> Option<&'static str> {
    const RESULT_STREAM: &str = "result-stream";
    offered.split(',').any(|name| name.trim() == RESULT_STREAM).then_some(RESULT_STREAM)
}
