//! Signals of the operating system.

use std::{fs::File, io};

use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    has_terminal: bool,
}

/// Meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, or the terminal was closed.
    Stop,
    /// SIGHUP without a terminal: read the configuration again.
    Reload,
}

impl Signals {
    /// Handles the signals. They no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            // Checked now: at a SIGHUP for a closed terminal it cannot be opened any more.
            has_terminal: File::open("/dev/tty").is_ok(),
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.interrupt.recv() => Wanted::Interrupt,
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.hangup.recv() => if self.has_terminal { Wanted::Stop } else { Wanted::Reload },
        }
    }

    /// Waits for the next signal other than `Reload`.
    pub(crate) async fn stop(&mut self) -> Wanted {
        loop {
            match self.next().await {
                Wanted::Reload => {}
                wanted => return wanted,
            }
        }
    }
}
