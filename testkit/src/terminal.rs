//! The binary on a pseudo-terminal, to test its interactive output.

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

/// A pseudo-terminal that runs a program.
pub struct Terminal {
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    child: Child,
}

impl Terminal {
    /// Starts the binary on a terminal of `columns` columns.
    pub fn start(home: &Home, args: &[&str], columns: u16) -> Self {
        Self::start_with(&mut home.command(args), columns)
    }

    /// As `start`, with a prepared command.
    pub fn start_with(command: &mut Command, columns: u16) -> Self {
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        let end = || Stdio::from(pair.slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        // `command` would keep its copies of the terminal open, and the reader would never see the end.
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

    /// All output so far, with escape sequences.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock()).into_owned()
    }

    /// All output so far, without escape sequences.
    pub fn text(&self) -> String {
        let raw = self.raw().replace('\r', "");
        let mut pieces = raw.split("\u{1b}[");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |all, piece| {
            let end = piece.find(|c: char| ('@'..='~').contains(&c)).map_or(piece.len(), |end| end + 1);
            all + &piece[end..]
        })
    }

    /// Writes `text` to the terminal, as if a user typed it.
    pub fn types(&self, text: &str) {
        (&self.keys).write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the output contains `text`.
    pub async fn shows(&self, text: &str) {
        let found =
            timeout(PATIENCE, wait_until("the terminal shows the text", || self.text().contains(text)));
        assert!(found.await.is_ok(), "no {text:?} in:\n{}", self.text());
    }

    /// Waits until the program has ended. Returns its status and its output.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else { panic!("the program still runs:\n{}", self.text()) };
        wait_until("the screen is read", || self.reader.is_finished()).await;
        (status.unwrap(), self.text())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("the program has ended")).unwrap()
    }
}
