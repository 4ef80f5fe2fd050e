//! A thread that writes the log to standard error, so that a full pipe, or a terminal stopped with Ctrl-S, does not block the
//! process. Lines above the limit are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// Most waiting lines: some seconds of the level `trace`.
const MAX_LINES: usize = 1024;
/// Longest line in bytes. Texts of hubs and backends may be longer.
pub(super) const MAX_LINE: usize = 8 << 10;
/// Time-out of a flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Queue of lines. Clones share it.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Writes the line about a number of lost lines.
    notice: fn(u64) -> Vec<u8>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    dropped: u64,
    /// Whether the thread is writing a line.
    writing: bool,
    /// Whether lines wait until they are released.
    is_held: bool,
}

impl Sink {
    /// Starts the thread, which writes to `out`. `notice` is the line about a number of lost lines.
    pub(super) fn start(out: impl Write + Send + 'static, notice: fn(u64) -> Vec<u8>) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), notice });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log".into()).spawn(move || writer.write_to(out))?;
        Ok(Self(shared))
    }

    /// Queues a line, or drops it if the queue is full. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.lines.len() >= MAX_LINES {
            state.dropped += 1;
            return;
        }
        if let Some(notice) = state.notice(self.0.notice) {
            state.lines.push_back(notice);
        }
        state.lines.push_back(cut(line));
        drop(state);
        self.0.changed.notify_all();
    }

    /// Writes all lines, and has those that follow wait until they are released.
    pub(super) fn hold(&self) {
        self.flush();
        self.0.state.lock().is_held = true;
    }

    /// Has the lines that wait written.
    pub(super) fn release(&self) {
        self.0.state.lock().is_held = false;
        self.0.changed.notify_all();
    }

    /// Releases all lines and waits until they are written, at most [`FLUSH_TIMEOUT`].
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        self.release();
        let mut state = self.0.state.lock();
        while state.writing || state.dropped > 0 || !state.lines.is_empty() {
            if self.0.changed.wait_until(&mut state, deadline.into_std()).timed_out() {
                return;
            }
        }
    }
}

impl State {
    /// The next line to write.
    fn next(&mut self, notice: fn(u64) -> Vec<u8>) -> Option<Vec<u8>> {
        self.lines.pop_front().or_else(|| self.notice(notice))
    }

    /// Notice about dropped lines.
    fn notice(&mut self, of: fn(u64) -> Vec<u8>) -> Option<Vec<u8>> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| of(dropped))
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut state = self.state.lock();
        loop {
            let next = if state.is_held { None } else { state.next(self.notice) };
            let Some(line) = next else {
                self.changed.wait(&mut state);
                continue;
            };
            state.writing = true;
            drop(state);
            // An error, such as a full disk, loses the line only.
            drop(out.write_all(&line).and_then(|()| out.flush()));
            state = self.state.lock();
            state.writing = false;
            self.changed.notify_all();
        }
    }
}

/// `env_logger` writes each record with one call.
impl Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn cut(line: &[u8]) -> Vec<u8> {
    if line.len() <= MAX_LINE {
        return line.to_vec();
    }
    let mut line = String::from_utf8_lossy(&line[..MAX_LINE]).into_owned();
    line.push_str("…\n");
    line.into_bytes()
}
