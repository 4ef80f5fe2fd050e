//! The binary on a terminal of its own: what a person sees who sits in front of it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::pty::{Winsize, openpty};
use parking_lot::Mutex;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::process::Home;
use crate::wait::{PATIENCE, wait_until};

/// A terminal with a program on it.
pub struct Terminal {
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    child: Child,
}

impl Terminal {
    /// Starts the binary on a terminal that is `columns` wide.
    pub fn start(home: &Home, args: &[&str], columns: u16) -> Self {
        Self::start_with(&mut home.command(args), columns)
    }

    /// As `start`, for a command that was told more.
    pub fn start_with(command: &mut Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        // The command would hold its ends open, and the terminal never end.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        drop(pair.slave);
        let keys = File::from(pair.master);
        let mut reader = keys.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&screen);
        let watched = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                sink.lock().extend_from_slice(&bytes[..read]);
            }
        });
        Self { keys, screen, reader: watched, child }
    }

    /// Everything that was written so far, with the sequences that move and colour.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock()).into_owned()
    }

    /// What was written, without them.
    pub fn text(&self) -> String {
        let raw = self.raw().replace('\r', "");
        let mut pieces = raw.split("\u{1b}[");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |all, piece| {
            let end = piece.find(|c: char| ('@'..='~').contains(&c)).map_or(piece.len(), |end| end + 1);
            all + &piece[end..]
        })
    }

    /// Types.
    pub fn types(&self, text: &str) {
        (&self.keys).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is to be seen.
    pub async fn shows(&self, text: &str) {
        let found = timeout(PATIENCE, wait_until("the terminal shows it", || self.text().contains(text)));
        assert!(found.await.is_ok(), "no {text:?} in:\n{}", self.text());
    }

    /// Waits for the program's end; gives what was to be seen, too.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else { panic!("still runs:\n{}", self.text()) };
        wait_until("the screen is read", || self.reader.is_finished()).await;
        (status.unwrap(), self.text())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("still running")).unwrap()
    }
}
