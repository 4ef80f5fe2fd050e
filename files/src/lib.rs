//! Opens files and tells whether other users could have written them.
//!
//! A check of a path before the file is opened is a race: the file may be replaced in between. Here the path is walked
//! from the root with open descriptors, and each folder, link and file is checked by its descriptor.

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

/// An open file with its metadata and doubt.
#[derive(Debug)]
pub struct OwnFile {
    file: File,
    metadata: Metadata,
    doubt: Option<Doubt>,
}

impl OwnFile {
    /// Opens a regular file. Links are followed. Another kind of file is an error; a pipe is not waited for.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::regular(walk::file(path, walk::Last::Regular)?)
    }

    /// As [`open`](Self::open); the last part of the path must not be a link.
    pub fn open_itself(path: &Path) -> io::Result<Self> {
        Self::regular(walk::file(path, walk::Last::Itself)?)
    }

    /// Opens a file given on a command line, also a pipe (`<(…)`, `/dev/stdin`).
    pub fn open_given(path: &Path) -> io::Result<Self> {
        walk::file(path, walk::Last::Given)
    }

    fn regular(opened: Self) -> io::Result<Self> {
        if opened.metadata.is_file() { Ok(opened) } else { Err(irregular()) }
    }

    /// Reason why another user may have written the file.
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// Returns the file, or the doubt as an error.
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

    /// Metadata of the file when it was opened.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Whether the group or all users can read the file.
    pub fn others_can_read(&self) -> bool {
        self.mode() & 0o044 != 0
    }

    /// Permission bits of the mode.
    pub fn mode(&self) -> u32 {
        self.metadata.permissions().mode() & 0o7777
    }

    /// Reads the content; more than `most` bytes are an error.
    pub fn read(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&self.file).take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(invalid(&format!("it is larger than {}", size(most))));
        }
        Ok(bytes)
    }

    /// As [`read`](Self::read), for UTF-8 text.
    pub fn read_text(&self, most: u64) -> io::Result<String> {
        String::from_utf8(self.read(most)?).map_err(|_| invalid("it is no text in UTF-8"))
    }
}

/// Reason why another user can change files in this folder, create some, or replace the folder. A sticky bit does not
/// remove the doubt: others could create a file or a link before this process does.
pub fn folder(path: &Path) -> io::Result<Option<Doubt>> {
    walk::folder(path)
}

/// Creates missing folders with mode 0700 and checks the last one as [`folder`] does. Nothing is created if the existing
/// part of the path raises a doubt.
pub fn make_folder(path: &Path) -> io::Result<Option<Doubt>> {
    if let Some(doubt) = walk::way(path)? {
        return Ok(Some(doubt));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    walk::folder(path)
}

/// Place of a file that is to be written.
#[derive(Debug)]
pub struct Place {
    /// Path without links.
    pub path: PathBuf,
    /// Whether the path itself is a link.
    pub is_linked: bool,
    /// Reason why another user may have created a link in the path, or can create files in the folder.
    pub doubt: Option<Doubt>,
}

/// Resolves the links of `path`. The file need not exist; its folder must.
pub fn place(path: &Path) -> io::Result<Place> {
    walk::place(path)
}

/// Checks a file that was opened for writing. Its path is not checked.
pub fn doubt_of(file: &File, path: &Path) -> io::Result<Option<Doubt>> {
    Ok(doubt::judge(path, &nix::sys::stat::fstat(file)?, doubt::Kind::File, Some(file.as_fd())))
}

/// Opens a regular file for writing with `options`. Another kind of file is an error, and so is a link unless `followed`. A
/// pipe is not waited for.
pub fn open_to_write(path: &Path, options: &mut OpenOptions, followed: bool) -> io::Result<File> {
    let follow = if followed { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let options = options.write(true).custom_flags((follow | OFlag::O_NONBLOCK).bits());
    let file = match options.open(path) {
        // A pipe without a reader.
        Err(error) if error.raw_os_error() == Some(Errno::ENXIO as i32) => return Err(irregular()),
        opened => opened?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular()) }
}

/// Text of an error without the suffix "(os error 13)".
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
