//! What the operating system asks of us.

use std::{fs::File, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that a command may wait for.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    has_terminal: bool,
}

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or the terminal was closed.
    Stop,
    /// SIGHUP where there is no terminal: read the configuration again.
    Reload,
}

impl Signals {
    /// From here on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            // Asked now: when SIGHUP comes because the terminal has gone, it can no longer be opened.
            has_terminal: File::open("/dev/tty").is_ok(),
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.interrupt.recv() => Wanted::Interrupt,
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.hangup.recv() => if self.has_terminal { Wanted::Stop } else { Wanted::Reload },
        }
    }

    /// Waits for one that means stop.
    pub(crate) async fn stop(&mut self) -> Wanted {
        loop {
            match self.next().await {
                Wanted::Reload => {}
                wanted => return wanted,
            }
        }
    }
}
