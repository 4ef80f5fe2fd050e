//! The data directory of a hub: a lock against a second hub, and private files.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
pub(crate) use own_files::plain;
use own_files::{OwnFile, open_to_write};

use super::StoreError;

/// Maximum size of the admin token file in bytes: a token, its line ending, and some blanks.
const MAX_TOKEN_FILE: u64 = 4096;

/// A data directory, locked until it is dropped or the process ends.
#[derive(Debug)]
pub struct HubDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl HubDir {
    /// Creates `path` (0700) if it is missing, and locks it. A directory that other users can write is refused, and so are files
    /// owned by others: they could change rows, tokens and keys. The sticky bit does not help: `SQLite` would roll back a
    /// journal that another user put beside its file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let unusable = |error: io::Error| unusable(path, &error);
        if let Some(doubt) = own_files::make_folder(path).map_err(unusable)? {
            return Err(unusable(io::Error::from(&doubt)));
        }
        let lock = private(&path.join("hub.lock"), OpenOptions::new().create(true).truncate(false))?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StoreError::InUse(path.to_owned())),
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }

    /// Creates the database file (0600) if it is missing, and checks it and its side files. `SQLite` gives those its mode.
    pub(super) fn database(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.join("hub.db");
        private(&path, OpenOptions::new().create(true).truncate(false))?;
        for side in ["hub.db-wal", "hub.db-shm", "hub.db-journal"] {
            let side = self.path.join(side);
            if side.symlink_metadata().is_ok() {
                private(&side, &mut OpenOptions::new())?;
            }
        }
        Ok(path)
    }

    /// The path of the admin token.
    pub fn admin_token_file(&self) -> PathBuf {
        self.path.join("admin-token")
    }

    /// Reads the admin token. `None` without a file, or with an empty one.
    pub fn read_admin_token(&self) -> Result<Option<String>, StoreError> {
        let path = self.admin_token_file();
        let read = OwnFile::open_itself(&path)
            .and_then(OwnFile::trusted)
            .and_then(|file| file.read_text(MAX_TOKEN_FILE));
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, &error)),
        };
        let token = text.trim();
        Ok((!token.is_empty()).then(|| token.to_owned()))
    }

    /// Writes a new admin token (0600) atomically.
    pub fn write_admin_token(&self, token: &str) -> Result<(), StoreError> {
        let path = self.admin_token_file();
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            writeln!(file, "{token}")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| unusable(&path, &error))
    }
}

/// Opens a regular file, never through a link, and makes it readable by its owner only. A file is refused if its owner is
/// neither this user nor root, or if others can write it: its content may be theirs.
fn private(path: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    let mut open = || -> io::Result<File> {
        let file = open_to_write(path, options.mode(0o600), false)?;
        if let Some(doubt) = own_files::doubt_of(&file, path)? {
            return Err(io::Error::from(&doubt));
        }
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
        Ok(file)
    };
    open().map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unusable { path: path.to_owned(), cause: plain(error) }
}
