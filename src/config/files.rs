//! Reads the files of a person: JSON, of a sane size, and with a look at who else can read or write them.

use std::{
    fs::{self, DirBuilder, File, Metadata},
    io::{self, Read, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt, PermissionsExt},
    path::Path,
};

use serde_json::Value;

use crate::exit::{Failure, Outcome};

/// Far more than anybody writes by hand; a wrong path (a model, a disk) ends here instead of in memory.
const LARGEST: u64 = 4 << 20;

/// A file's content, and what is known of the file.
pub(super) struct JsonFile {
    pub(super) value: Value,
    pub(super) metadata: Metadata,
}

/// Reads a JSON file. `None` where there is none.
pub(super) fn json(path: &Path) -> Result<Option<JsonFile>, Failure> {
    let shown = path.display();
    let cannot = |error: io::Error| Failure::usage(format!("cannot read {shown}: {}", plain(&error)));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot(error)),
    };
    if !metadata.is_file() {
        return Err(Failure::usage(format!("cannot read {shown}: it is not a regular file")));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage(format!("cannot read {shown}: it is larger than 4 MiB")));
    }
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
    Ok(Some(JsonFile { value, metadata }))
}

/// Writes a JSON file that only its owner can read, all at once: who reads it meanwhile sees the old or the new one.
pub(crate) fn write(path: &Path, value: &Value) -> Outcome {
    let cannot =
        |error: io::Error| Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error)));
    // Where a link leads, so that a file kept elsewhere stays there.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(cannot)?;
    let mut text = serde_json::to_string_pretty(value).map_err(|error| cannot(error.into()))?;
    text.push('\n');
    // tempfile makes it 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
    file.persist(path).map_err(|error| cannot(error.error))?;
    Ok(())
}

/// serde's text without the position, which stands before it.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    format!("not valid JSON: {text}")
}

/// The operating system's words without Rust's "(os error 13)".
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}

/// Whether somebody else can change the file: then its recipes could be theirs.
pub(super) fn others_can_write(metadata: &Metadata) -> bool {
    let owner = metadata.uid();
    metadata.permissions().mode() & 0o022 != 0 || (owner != 0 && owner != nix::unistd::geteuid().as_raw())
}

/// Whether somebody else can read the file.
pub(super) fn others_can_read(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o044 != 0
}

/// The mode in the form that `chmod` takes.
pub(super) fn mode(metadata: &Metadata) -> String {
    format!("{:04o}", metadata.permissions().mode() & 0o7777)
}
