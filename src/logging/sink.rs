//! Standard error by a thread of its own: a pipe that nobody reads, or a terminal that was stopped with Ctrl-S, must not
//! stop the process. What finds no room is lost, and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

#[cfg(test)]
mod tests;

/// Lines that wait: some seconds of the loudest level. A log that is behind by more is not read.
const MAX_LINES: usize = 1024;
/// Bytes of one line. Ours are short; a hub's reason or a backend's may not be.
const MAX_LINE: usize = 8 << 10;
/// How long a flush waits for somebody who reads.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go. Clones are the same one.
#[derive(Clone)]
pub(super) struct Sink(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    lost: u64,
    /// Whether the thread has a line in its hands.
    writing: bool,
}

impl Sink {
    /// A sink whose thread writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log".into()).spawn(move || writer.write_to(out))?;
        Ok(Self(shared))
    }

    /// Takes one line, or loses it. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state.lock();
        if state.lines.len() >= MAX_LINES {
            state.lost += 1;
            return;
        }
        if let Some(notice) = state.notice() {
            state.lines.push_back(notice);
        }
        state.lines.push_back(cut(line));
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all is written, but not for ever.
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.0.state.lock();
        while state.writing || state.lost > 0 || !state.lines.is_empty() {
            if self.0.changed.wait_until(&mut state, deadline.into_std()).timed_out() {
                return;
            }
        }
    }
}

impl State {
    /// What to say where lines are missing.
    fn notice(&mut self) -> Option<Vec<u8>> {
        let lost = std::mem::take(&mut self.lost);
        (lost > 0).then(|| format!("({lost} lines of the log were lost: nobody read it)\n").into_bytes())
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut state = self.state.lock();
        loop {
            let next = state.lines.pop_front().or_else(|| state.notice());
            let Some(line) = next else {
                self.changed.wait(&mut state);
                continue;
            };
            state.writing = true;
            drop(state);
            // A full disk has room again some day; until then lines are lost.
            drop(out.write_all(&line).and_then(|()| out.flush()));
            state = self.state.lock();
            state.writing = false;
            self.changed.notify_all();
        }
    }
}

/// `env_logger` gives each record in one write.
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
