//! Reads the files of a person: JSON, of a sane size, and with a look at who else can read or write them.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use own_files::{Doubt, OwnFile, Place, plain};
use serde_json::Value;

use crate::exit::{Failure, Outcome};

/// Far more than anybody writes by hand; a wrong path (a model, a disk) ends here instead of in memory.
const LARGEST: u64 = 4 << 20;

/// A file's content, and what is known of the file.
pub(super) struct JsonFile {
    pub(super) value: Value,
    pub(super) file: OwnFile,
}

/// Reads a JSON file. `None` where there is none.
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
    let bytes = file.read(LARGEST).map_err(cannot)?;
    // Editors on Windows put a byte order mark in front.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let value = serde_json::from_slice(text).map_err(|error| {
        Failure::usage(format!(
            "{shown}: line {}, column {}: {}",
            error.line(),
            error.column(),
            reason(&error)
        ))
    })?;
    Ok(Some(JsonFile { value, file }))
}

/// As `write`, for what nobody else may have: not where others can put a file or a link.
pub(super) fn write_secret(path: &Path, value: &Value) -> Outcome {
    write_to(path, value, |_| true)
}

/// Writes a JSON file that only its owner can read, all at once: who reads it meanwhile sees the old or the new one. Through
/// a link only if nobody else can have put it there: what it leads to would be lost.
pub(crate) fn write(path: &Path, value: &Value) -> Outcome {
    write_to(path, value, |place| place.is_linked)
}

/// Writes it where a link leads, so that a file kept elsewhere stays there; not where a doubt `counts`.
fn write_to(path: &Path, value: &Value, counts: impl Fn(&Place) -> bool) -> Outcome {
    let cannot =
        |error: io::Error| Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error)));
    let doubted = |doubt: &Doubt| cannot(io::Error::from(doubt));
    let folder = folder_of(path);
    if !folder.is_dir()
        && let Some(doubt) = own_files::make_folder(folder).map_err(cannot)?
    {
        return Err(doubted(&doubt));
    }
    let place = own_files::place(path).map_err(cannot)?;
    if let Some(doubt) = place.doubt.as_ref().filter(|_| counts(&place)) {
        return Err(doubted(doubt));
    }
    let mut text = serde_json::to_string_pretty(value).map_err(|error| cannot(error.into()))?;
    text.push('\n');
    // tempfile makes it 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder_of(&place.path)).map_err(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    file.persist(&place.path).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// Opens a file to be written, made with `mode` where there is none: not through a link that others could have made. A pipe
/// that nobody reads is an error, nothing waits for its other end.
pub(crate) fn open_to_write(path: &Path, mode: u32) -> io::Result<File> {
    let place = own_files::place(path)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(mode).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = if !place.is_linked {
        // It may have become a link meanwhile.
        options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(place.path)?
    } else if let Some(doubt) = &place.doubt {
        return Err(doubt.into());
    } else {
        options.open(path)?
    };
    // What is written waits for its reader, who is there.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// Writes a regular file that anybody may read and its owner alone may write, whatever the umask: not through a link that
/// others could have made.
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

/// serde's text without the position, which stands before it.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    format!("not valid JSON: {text}")
}

/// The mode in the form that `chmod` takes.
pub(super) fn mode(file: &OwnFile) -> String {
    format!("{:04o}", file.mode())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn nothing_is_written_through_a_link_that_others_could_have_made() {
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
            assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this wants root");
            return eprintln!("skipped: only root can make a link of somebody else's");
        }
        std::os::unix::fs::lchown(shared.join("link"), Some(65534), None).unwrap();
        let refused = open_to_write(&shared.join("link"), 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
        write_public(&shared.join("link"), b"x").unwrap_err();
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        write_public(&top.path().join("link"), b"new").unwrap();
        assert_eq!(fs::read_to_string(&own).unwrap(), "new", "a link of one's own is followed");
        write_public(&shared.join("file"), b"new").unwrap();
        open_to_write(Path::new("/dev/null"), 0o600).unwrap();
    }

    #[test]
    fn what_anybody_may_read_its_owner_alone_may_write() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("file");
        fs::write(&file, "an older and longer one").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        write_public(&file, b"new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
}
