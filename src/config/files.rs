//! Reads the files of a person: JSON, of a sane size, and with a look at who else can read or write them.

use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use serde_json::Value;

use crate::exit::Failure;

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
