//! Reads and writes the user's files.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use own_files::{OwnFile, Place, plain};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::exit::{Failure, Outcome};

/// Largest JSON file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Longest wait for another command that changes the same file. A change takes milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Prefix of temporary files.
const TEMPORARY: &str = ".virtual-llm-";
const TEMPORARY_END: &str = ".tmp";
/// Age at which a temporary file is abandoned. A write takes milliseconds.
const ABANDONED: Duration = Duration::from_mins(1);

/// The content of a JSON file, and the file that it was read from.
pub(super) struct JsonFile {
    pub(super) value: Value,
    pub(super) file: OwnFile,
}

/// Reads a JSON file. `None` if it does not exist.
pub(super) fn json(path: &Path) -> Result<Option<JsonFile>, Failure> {
    let shown = path.display();
    let cannot = |error: io::Error| Failure::usage(format!("cannot read {shown}: {}", plain(&error)));
    let file = match OwnFile::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot(error)),
    };
    let bytes = file.read(MAX_FILE).map_err(cannot)?;
    // Some editors put a byte order mark in front.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let value = serde_json::from_slice(text).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
        let (line, column) = (error.line(), error.column());
        Failure::usage(format!("{shown}: line {line}, column {column}: not valid JSON: {reason}"))
    })?;
    Ok(Some(JsonFile { value, file }))
}

/// Replaces a JSON file atomically, with mode 0600. Fails if others can create files or links in its folder.
pub(super) fn write_secret(path: &Path, value: &Value) -> Outcome {
    write(path, value, |_| true)
}

/// Reads a JSON file, changes it and replaces it atomically, with mode 0600. A missing file is an empty object. The file is
/// written only if `change` succeeds and changes something. A lock file keeps other commands out meanwhile.
///
/// Unlike [`write_secret`], it writes in a folder where others can create files: the file was read there before. It fails
/// if the path is a link in such a folder, since others could have created the link.
pub(crate) async fn update<T>(
    path: &Path,
    change: impl FnOnce(&mut Value) -> Result<T, Failure>,
) -> Result<T, Failure> {
    make_folder_of(path).map_err(|error| cannot_write(path, &error))?;
    let _lock = lock(path).await?;
    let before = json(path)?.map_or_else(|| Value::Object(Map::new()), |file| file.value);
    let mut value = before.clone();
    let result = change(&mut value)?;
    if value != before {
        write(path, &value, |place| place.is_linked)?;
    }
    Ok(result)
}

/// Locks `<path>.lock` until the result is dropped. `None` with a warning if the lock file cannot be used: then a command
/// at the same time may undo the change.
async fn lock(path: &Path) -> Result<Option<Flock<File>>, Failure> {
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    let lock = Path::new(&lock);
    let unlocked = |error: &io::Error| {
        log::warn!("cannot lock {}: {}", lock.display(), plain(error));
        Ok(None)
    };
    // Follows no link, and does not wait for a FIFO.
    let opened =
        own_files::open_to_write(lock, OpenOptions::new().create(true).truncate(false).mode(0o600), false);
    let judged = opened.and_then(|file| match own_files::doubt_of(&file, lock)? {
        Some(doubt) => Err(io::Error::from(&doubt)),
        None => Ok(file),
    });
    let mut file = match judged {
        Ok(file) => file,
        Err(error) => return unlocked(&error),
    };
    let deadline = Instant::now() + LOCK_LIMIT;
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(Some(locked)),
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file,
            Err((_, Errno::EWOULDBLOCK)) => {
                let shown = path.display();
                return Err(Failure::failed(format!("another command is changing {shown}: try again")));
            }
            Err((_, error)) => return unlocked(&error.into()),
        };
        tokio::time::sleep(LOCK_RETRY).await;
    }
}

/// Replaces the target of links, so that a file kept elsewhere stays there. A doubt about the place is an error if
/// `is_strict`.
fn write(path: &Path, value: &Value, is_strict: impl Fn(&Place) -> bool) -> Outcome {
    let write = || -> io::Result<()> {
        make_folder_of(path)?;
        let place = own_files::place(path)?;
        if let Some(doubt) = place.doubt.as_ref().filter(|_| is_strict(&place)) {
            return Err(doubt.into());
        }
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        replace(&place.path, text.as_bytes(), 0o600)
    };
    write().map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {}", path.display(), plain(error)))
}

fn make_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    if !folder.is_dir()
        && let Some(doubt) = own_files::make_folder(folder)?
    {
        return Err((&doubt).into());
    }
    Ok(())
}

/// Writes a regular file that everybody may read and only its owner may write, whatever the umask. It is replaced
/// atomically. A link is followed unless others could have created it.
pub(crate) fn write_public(path: &Path, text: &[u8]) -> io::Result<()> {
    let place = own_files::place(path)?;
    if let Some(doubt) = place.doubt.as_ref().filter(|_| place.is_linked) {
        return Err(doubt.into());
    }
    let mode = match place.path.symlink_metadata() {
        Ok(existing) if existing.is_file() => existing.permissions().mode() & 0o755,
        Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0o644,
        Err(error) => return Err(error),
    };
    replace(&place.path, text, mode)
}

/// Replaces a file by a new one, atomically. After an error the old one is unchanged.
fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path);
    remove_abandoned(folder);
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .suffix(TEMPORARY_END)
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(text)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Removes the temporary files of killed processes: they hold a copy of the configuration or of a token.
fn remove_abandoned(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_temporary =
            name.to_str().is_some_and(|name| name.starts_with(TEMPORARY) && name.ends_with(TEMPORARY_END));
        // The metadata of a link is its own.
        let is_abandoned = || {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some(metadata.modified().ok()?.elapsed().ok()? > ABANDONED)
        };
        if is_temporary && is_abandoned() == Some(true) {
            // It is tried again at the next write.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_link_that_others_could_have_created_is_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("own");
        fs::write(&own, "mine").unwrap();
        let shared = top.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        for folder in [top.path(), &shared] {
            symlink(&own, folder.join("link")).unwrap();
        }
        if !nix::unistd::geteuid().is_root() {
            return testkit::skipped("a link of another user, which only root can create");
        }
        std::os::unix::fs::lchown(shared.join("link"), Some(65534), None).unwrap();
        let refused = write_public(&shared.join("link"), b"x").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        write_public(&top.path().join("link"), b"new").unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), "new", "the owner's own link is followed");
        write_public(&shared.join("file"), b"new").unwrap();
    }

    #[test]
    fn a_public_file_is_writable_by_its_owner_only() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        fs::write(&file, "an older and longer one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        write_public(&file, b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
}
