//! Reads the files of a person: JSON, of a sane size, and with a look at who else can read or write them.

use std::{
    io::{self, Write as _},
    path::Path,
};

use own_files::{Doubt, OwnFile, Place};
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

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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

/// The mode in the form that `chmod` takes.
pub(super) fn mode(file: &OwnFile) -> String {
    format!("{:04o}", file.mode())
}
