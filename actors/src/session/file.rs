//! The session file and its lock (SPEC.md section 6, session file).

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use own_files::{Doubt, OwnFile, open_to_write, plain};
use tempfile::Builder;
use wire::SessionId;

use crate::failpoint;

/// Longest session file, in bytes.
const MAX_FILE: u64 = 4 << 10;

/// Locks a session file against other registrars until it is dropped.
#[derive(Debug)]
pub(crate) struct SessionLock {
    #[expect(dead_code, reason = "held for its drop, which unlocks")]
    file: Flock<File>,
}

/// Another registrar holds the lock.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Locked {
    pub(crate) lock: PathBuf,
}

impl SessionLock {
    /// Locks `<session-file>.lock`. Returns `Ok(None)` with a warning if that is not possible: a read-only home, or a lock
    /// file of another user, must not keep a registrar from running.
    pub(crate) fn take(session_file: &Path) -> Result<Option<Self>, Locked> {
        let path = lock_path(session_file);
        let opened = make_folder(&path).and_then(|()| {
            let mut options = OpenOptions::new();
            // Follows no link, and does not wait for a FIFO.
            open_to_write(&path, options.create(true).truncate(false).mode(0o600), false)
        });
        let judged = opened.and_then(|file| match own_files::doubt_of(&file, &path)? {
            Some(doubt) => Err(io::Error::from(&doubt)),
            None => Ok(file),
        });
        let file = match judged {
            Ok(file) => file,
            Err(error) => {
                warn_unlocked(&path, &error);
                return Ok(None);
            }
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, Errno::EWOULDBLOCK)) => Err(Locked { lock: path }),
            Err((_, error)) => {
                warn_unlocked(&path, &error.into());
                Ok(None)
            }
        }
    }
}

fn warn_unlocked(path: &Path, error: &io::Error) {
    let reason = plain(error);
    log::warn!("cannot lock {}: {reason}; a second registrar would go unnoticed", path.display());
}

/// Reads the session id: one line of 1 to 256 visible ASCII characters in a regular file of at most 4 KiB. Anything else
/// is no id.
pub fn load(path: &Path) -> Option<SessionId> {
    match read(path) {
        Ok(text) => {
            let line =
                text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
            let id = SessionId::parse(line).ok();
            if id.is_none() {
                log::warn!("{} holds no session id: the hub will give a new one", path.display());
            }
            id
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!(
                "cannot read {}: {}; the hub will give a new session id",
                path.display(),
                plain(&error)
            );
            None
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = OwnFile::open_itself(path)?;
    match file.doubt() {
        None | Some(Doubt::Mode { is_folder: false, .. }) => tighten(&file, path),
        Some(doubt) => return Err(doubt.into()),
    }
    file.read_text(MAX_FILE)
}

/// Sets mode 600. An id that others could read is still used, because it is useless without the token.
fn tighten(file: &OwnFile, path: &Path) {
    let mode = file.mode();
    let others = mode & 0o077;
    if others == 0 {
        return;
    }
    match file.file().set_permissions(Permissions::from_mode(0o600)) {
        Ok(()) => log::warn!("{} had mode {mode:03o}: it is 600 now", path.display()),
        Err(error) => {
            log::warn!("{} has mode {mode:03o} and should have 600: {}", path.display(), plain(&error));
        }
    }
}

/// Writes the id to a new file (0600) that replaces the old one atomically, so that after a power cut one of them is whole.
pub(crate) fn save(path: &Path, id: &SessionId) -> io::Result<()> {
    make_folder(path)?;
    let folder = folder_of(path);
    // `add` and `login` remove the files of killed processes by this name.
    let mut file = Builder::new().prefix(".virtual-llm-").suffix(".tmp").tempfile_in(folder)?;
    writeln!(file, "{id}")?;
    file.as_file().sync_all()?;
    failpoint::reach("before rename");
    file.persist(path)?;
    failpoint::reach("after rename");
    // Some file systems cannot sync a folder.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn lock_path(session_file: &Path) -> PathBuf {
    let mut name = session_file.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder_of(path))
}
