//! Files that somebody keeps for us: opened once, looked at as they were opened, with the way that led to them.
//!
//! Whoever looks at a path and then opens it may open another file than the one looked at. Here the path is walked from
//! the root, each folder, link and file is judged by what was opened, and what is read is what was judged.

mod acl;
mod doubt;
mod group;
mod meanwhile;
#[cfg(test)]
mod tests;
mod walk;

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use doubt::Doubt;
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// An open file, and what was seen of it.
#[derive(Debug)]
pub struct OwnFile {
    file: File,
    metadata: Metadata,
    doubt: Option<Doubt>,
}

impl OwnFile {
    /// Opens a regular file, through links. Anything else is an error: nothing waits for a pipe's other end.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::regular(walk::file(path, walk::Last::Regular)?)
    }

    /// As `open`; the last part of the path may not be a link.
    pub fn open_itself(path: &Path) -> io::Result<Self> {
        Self::regular(walk::file(path, walk::Last::Itself)?)
    }

    /// Opens what a person names on a command line, a pipe too (`<(…)`, `/dev/stdin`).
    pub fn open_given(path: &Path) -> io::Result<Self> {
        walk::file(path, walk::Last::Given)
    }

    fn regular(opened: Self) -> io::Result<Self> {
        if opened.metadata.is_file() { Ok(opened) } else { Err(irregular()) }
    }

    /// Why somebody else may have written it, if so.
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// Itself, or the doubt as an error.
    pub fn trusted(self) -> io::Result<Self> {
        match &self.doubt {
            Some(doubt) => Err(doubt.into()),
            None => Ok(self),
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What the open file was when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether others can read it: somebody of its group, or anybody.
    pub fn others_can_read(&self) -> bool {
        self.mode() & 0o044 != 0
    }

    /// Its mode, without the kind of file.
    pub fn mode(&self) -> u32 {
        self.metadata.permissions().mode() & 0o7777
    }

    /// Its content; more than `most` bytes are an error.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(invalid(&format!("it is larger than {}", size(most))));
        }
        Ok(bytes)
    }

    /// As `read`, for text.
    pub fn read_text(&self, most: u64) -> io::Result<String> {
        String::from_utf8(self.read(most)?).map_err(|_| invalid("it is no text in UTF-8"))
    }
}

/// Why somebody else may change what is in this folder, put something into it, or put another in its place; `None`: nobody
/// can. The sticky bit does not help: others could make a file or a link before we do.
pub fn folder(path: &Path) -> io::Result<Option<Doubt>> {
    walk::folder(path)
}

/// Makes a folder (0700), and those above it, where it is missing, and judges it as `folder` does. Nothing is made on a way
/// that raises a doubt.
pub fn make_folder(path: &Path) -> io::Result<Option<Doubt>> {
    if let Some(doubt) = walk::way(path)? {
        return Ok(Some(doubt));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    walk::folder(path)
}

/// Where a file that is to be written comes to stand.
#[derive(Debug)]
pub struct Place {
    /// Its real path, without a link.
    pub path: PathBuf,
    /// Whether the path itself is a link.
    pub is_linked: bool,
    /// Why somebody else may have put a link on the way, or may put something into the folder, if so.
    pub doubt: Option<Doubt>,
}

/// Where a file that is written at `path` comes to stand: what the last link leads to need not be there, its folder must be.
pub fn place(path: &Path) -> io::Result<Place> {
    walk::place(path)
}

/// What speaks against a file that was opened otherwise, to be written. The way to it is not looked at.
pub fn doubt_of(file: &File, path: &Path) -> io::Result<Option<Doubt>> {
    Ok(doubt::judge(path, &nix::sys::stat::fstat(file)?, doubt::Kind::File, Some(file.as_fd())))
}

/// Opens a regular file to be written, as `options` say. Anything else is an error: nothing waits for a pipe's other end.
/// Where links are not `followed`, one is an error, too.
pub fn open_to_write(path: &Path, options: &mut OpenOptions, followed: bool) -> io::Result<File> {
    let follow = if followed { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let options = options.write(true).custom_flags((follow | OFlag::O_NONBLOCK).bits());
    let file = match options.open(path) {
        // A pipe that nobody reads.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Err(irregular()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// The operating system's words without Rust's "(os error 13)".
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_owned()
}

fn irregular() -> io::Error {
    invalid("it is not a regular file")
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn size(bytes: u64) -> String {
    match bytes {
        mebibytes if mebibytes >= 1 << 20 => format!("{} MiB", mebibytes >> 20),
        kibibytes => format!("{} KiB", kibibytes >> 10),
    }
}
