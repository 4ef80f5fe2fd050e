//! The session file and its lock.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use testkit::captured_log;

use crate::fakes::hub::session;
use crate::session::file::{Locked, SessionLock, load, save};

pub(super) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// F53, A44: a session id is one line of visible ASCII; anything else in the file is never sent.
#[test]
fn a_session_file_needs_one_line_of_visible_ascii() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    assert_eq!(load(&path), None);
    let longest = "x".repeat(256);
    for (text, id) in
        [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (longest.as_str(), longest.as_str())]
    {
        fs::write(&path, text).unwrap();
        assert_eq!(load(&path), Some(session(id)), "{text:?}");
    }
    let (too_long, huge) = ("x".repeat(257), format!("abc\n{}", "\n".repeat(5000)));
    let broken =
        ["", "\n", "a b", "abc\n\n", "a\nb", " abc", "id\r\nX-Evil: 1", "a\0", "ä", &too_long, &huge];
    captured_log::listen("actors");
    for text in broken {
        fs::write(&path, text).unwrap();
        assert_eq!(load(&path), None, "{text:?}");
    }
    assert_eq!(captured_log::lines_with("session").len(), broken.len());
    assert!(captured_log::lines_with("X-Evil").is_empty(), "the content of the file is not logged");
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(load(&path), None);
}

/// F55, A44: only small regular files are read, and opening a FIFO does not block.
#[test]
fn links_large_files_fifos_and_folders_are_not_session_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    let link = folder.path().join("link");
    fs::write(&path, "abc").unwrap();
    symlink(&path, &link).unwrap();
    assert_eq!(load(&link), None, "a link is not a regular file");
    let large = folder.path().join("large");
    fs::File::create(&large).unwrap().set_len(1 << 30).unwrap();
    assert_eq!(load(&large), None, "a file of 1 GiB is not read");
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(load(&fifo), None, "opening a FIFO does not block");
    assert_eq!(load(folder.path()), None, "a folder is not a file");
}

/// F54: the change of mode is logged as a warning.
#[test]
fn a_session_file_that_others_can_read_gets_mode_600() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    for wide in [0o644, 0o666, 0o640, 0o604, 0o777] {
        fs::write(&path, "abc\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(wide)).unwrap();
        captured_log::listen("actors");
        assert_eq!((load(&path), mode(&path)), (Some(session("abc")), 0o600), "{wide:o}");
        let lines = captured_log::lines_with(&format!("{} had mode {wide:o}", path.display()));
        assert!(lines.len() == 1 && lines[0].starts_with("WARN"), "{lines:?}");
    }
}

/// F54, F56: the new file has mode 0600.
#[test]
fn a_session_file_is_replaced_atomically() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    fs::write(&path, "half").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    save(&path, &session("whole")).unwrap();
    // The mode is read before `load`, which would correct it.
    assert_eq!((mode(&path), load(&path)), (0o600, Some(session("whole"))));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_lock_file_that_others_can_write_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provider-session");
    let lock = folder.path().join("provider-session.lock");
    fs::write(&lock, "").unwrap();
    fs::set_permissions(&lock, Permissions::from_mode(0o666)).unwrap();
    let held =
        nix::fcntl::Flock::lock(fs::File::open(&lock).unwrap(), nix::fcntl::FlockArg::LockExclusiveNonblock);
    assert!(matches!(SessionLock::take(&path), Ok(None)));
    drop(held);
}

#[test]
fn a_fifo_in_place_of_the_lock_is_ignored_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("provider-session.lock");
    nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
    captured_log::listen("actors");
    assert!(matches!(SessionLock::take(&folder.path().join("provider-session")), Ok(None)));
    let lines =
        captured_log::lines_with(&format!("cannot lock {}: it is not a regular file;", lock.display()));
    assert_eq!(lines.len(), 1);
}

/// F57: a second registrar on one session file is refused by the lock.
#[test]
fn a_second_registrar_is_refused_until_the_first_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/provider-session");
    let lock = folder.path().join("deep/provider-session.lock");
    let first = SessionLock::take(&path).unwrap();
    assert!(first.is_some());
    assert_eq!(SessionLock::take(&path).unwrap_err(), Locked { lock: lock.clone() });
    drop(first);
    assert!(SessionLock::take(&path).unwrap().is_some());
    assert_eq!(mode(&lock), 0o600);
}

/// F52: the registrar then runs without a session file.
#[test]
fn a_registrar_starts_without_a_writable_session_folder() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("file");
    fs::write(&blocked, "").unwrap();
    let path = blocked.join("provider-session");
    assert!(SessionLock::take(&path).unwrap().is_none());
    assert!(save(&path, &session("abc")).is_err());
}
