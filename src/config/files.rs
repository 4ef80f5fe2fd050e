//! Reads and writes the user's files.

use std::{
    fs::{OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use own_files::{OwnFile, Place, plain};
use serde_json::Value;

use crate::exit::{Failure, Outcome};

/// Largest JSON file, in bytes.
const MAX_FILE: u64 = 4 << 20;

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

/// As [`write()`], but refused in a folder where others can create files or links.
pub(super) fn write_secret(path: &Path, value: &Value) -> Outcome {
    write_to(path, value, |_| true)
}

/// Replaces a JSON file atomically, with mode 0600. A link is followed unless others could have created it.
pub(crate) fn write(path: &Path, value: &Value) -> Outcome {
    write_to(path, value, |place| place.is_linked)
}

/// Replaces the target of links, so that a file kept elsewhere stays there. A doubt about the place is an error if
/// `is_strict`.
fn write_to(path: &Path, value: &Value, is_strict: impl Fn(&Place) -> bool) -> Outcome {
    let write = || -> io::Result<()> {
        let folder = folder_of(path);
        if !folder.is_dir()
            && let Some(doubt) = own_files::make_folder(folder)?
        {
            return Err((&doubt).into());
        }
        let place = own_files::place(path)?;
        if let Some(doubt) = place.doubt.as_ref().filter(|_| is_strict(&place)) {
            return Err(doubt.into());
        }
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        // The mode of a `NamedTempFile` is 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder_of(&place.path))?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&place.path)?;
        Ok(())
    };
    write().map_err(|error| Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error))))
}

/// Writes a regular file that everybody may read and only its owner may write, whatever the umask. A link is followed
/// unless others could have created it.
pub(crate) fn write_public(path: &Path, text: &[u8]) -> io::Result<()> {
    let place = own_files::place(path)?;
    if let Some(doubt) = place.doubt.as_ref().filter(|_| place.is_linked) {
        return Err(doubt.into());
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).mode(0o644);
    let mut file = own_files::open_to_write(path, &mut options, place.is_linked)?;
    let mode = file.metadata()?.permissions().mode();
    file.set_permissions(Permissions::from_mode(mode & 0o755))?;
    file.set_len(0)?;
    file.write_all(text)
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
            assert!(
                std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"),
                "this test needs root"
            );
            return eprintln!("skipped: only root can create a link of another user");
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
