//! The walk from the root to a file. Folders and files are checked by their open descriptors.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::doubt::{Doubt, Kind, judge};
use crate::meanwhile::{self, Point};
use crate::{OwnFile, Place, invalid};

/// Most links in a path, as in the kernel.
const LINKS: usize = 40;

/// Kinds of files that the last part of a path may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// A regular file, or a link to one.
    Regular,
    /// A regular file.
    Itself,
    /// Anything that can be read.
    Given,
}

/// Opens the file at `path`.
pub(crate) fn file(path: &Path, last: Last) -> io::Result<OwnFile> {
    let mut walk = Walk::start(path)?;
    loop {
        let Some(name) = walk.next_name()? else {
            return Err(Errno::EISDIR.into());
        };
        if !walk.todo.is_empty() {
            walk.enter(name)?;
            continue;
        }
        // Links in /proc are open files of the process, which only the kernel can follow.
        if last == Last::Given && is_of_processes(&walk.here) {
            let opened = walk.open(&name, OFlag::empty())?;
            return walk.finish(opened, &name);
        }
        if walk.follow(&name, last != Last::Itself)? {
            continue;
        }
        let waiting = if last == Last::Given { OFlag::empty() } else { OFlag::O_NONBLOCK };
        match walk.open(&name, OFlag::O_NOFOLLOW | waiting) {
            Ok(opened) => return walk.finish(opened, &name),
            // The file was replaced by a link, so the step is repeated.
            Err(Errno::ELOOP) if last != Last::Itself => walk.again(name)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Checks the folder at `path` for new files.
pub(crate) fn folder(path: &Path) -> io::Result<Option<Doubt>> {
    let mut walk = Walk::start(path)?;
    while let Some(name) = walk.next_name()? {
        walk.enter(name)?;
    }
    walk.settle()?;
    Ok(walk.doubt)
}

/// Checks the existing part of `path`.
pub(crate) fn way(path: &Path) -> io::Result<Option<Doubt>> {
    let mut walk = Walk::start(path)?;
    while let Some(name) = walk.next_name()? {
        match walk.enter(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            entered => entered?,
        }
    }
    Ok(walk.doubt)
}

/// Resolves the links of `path`, where a file is to be written.
pub(crate) fn place(path: &Path) -> io::Result<Place> {
    let (mut walk, mut is_linked) = (Walk::start(path)?, false);
    loop {
        let Some(name) = walk.next_name()? else {
            return Err(Errno::EISDIR.into());
        };
        if !walk.todo.is_empty() {
            walk.enter(name)?;
            continue;
        }
        match walk.follow(&name, true) {
            Ok(true) => is_linked = true,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(false) | Err(_) => {
                walk.settle()?;
                return Ok(Place { path: walk.at.join(name), is_linked, doubt: walk.doubt });
            }
        }
    }
}

struct Walk {
    /// The current folder and its path without links.
    here: OwnedFd,
    at: PathBuf,
    /// Whether others can create files in the current folder.
    is_shared: bool,
    /// The remaining names, also `..`, in reverse order.
    todo: Vec<OsString>,
    links: usize,
    doubt: Option<Doubt>,
}

impl Walk {
    fn start(path: &Path) -> io::Result<Self> {
        let here = root()?;
        let mut walk =
            Self { here, at: PathBuf::from("/"), is_shared: false, todo: Vec::new(), links: 0, doubt: None };
        walk.arrive()?;
        walk.plan(&std::path::absolute(path)?);
        Ok(walk)
    }

    /// Inserts the parts of `path` before the remaining names.
    fn plan(&mut self, path: &Path) {
        let parts = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        self.todo.extend(parts);
    }

    /// The next name. `..` is followed at once.
    fn next_name(&mut self) -> io::Result<Option<OsString>> {
        while let Some(name) = self.todo.pop() {
            if name != ".." {
                return Ok(Some(name));
            }
            self.here = openat(&self.here, "..", FOLDER, Mode::empty())?;
            self.at.pop();
            self.arrive()?;
        }
        Ok(None)
    }

    /// Enters a folder, or follows a link.
    fn enter(&mut self, name: OsString) -> io::Result<()> {
        if self.follow(&name, true)? {
            return Ok(());
        }
        match openat(&self.here, name.as_os_str(), FOLDER, Mode::empty()) {
            Ok(folder) => {
                self.here = folder;
                self.at.push(name);
                self.arrive()
            }
            // The folder was replaced by a link, so the step is repeated. Linux returns ENOTDIR for a link with O_DIRECTORY.
            Err(Errno::ELOOP | Errno::ENOTDIR) if self.is_link(&name)?.is_some() => self.again(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks the current folder.
    fn arrive(&mut self) -> io::Result<()> {
        meanwhile::reach(Point::Entered, &self.at);
        let stat = fstat(&self.here)?;
        self.is_shared = stat.st_mode & 0o022 != 0;
        let at = std::mem::take(&mut self.at);
        let doubt = judge(&at, &stat, Kind::Folder, Some(self.here.as_fd()));
        self.found(doubt);
        self.at = at;
        Ok(())
    }

    /// Checks the last folder for new files.
    fn settle(&mut self) -> io::Result<()> {
        let stat = fstat(&self.here)?;
        let doubt = judge(&self.at, &stat, Kind::Place, Some(self.here.as_fd()));
        self.found(doubt);
        Ok(())
    }

    /// Follows `name` if it is a link, and returns whether it is. A user who could replace the link before it is read can
    /// write its folder or owns the link: both are checked.
    fn follow(&mut self, name: &OsStr, allowed: bool) -> io::Result<bool> {
        let Some(link) = self.is_link(name)? else {
            meanwhile::reach(Point::Looked, &self.at);
            return Ok(false);
        };
        if !allowed {
            return Err(invalid(
                "it is a link, which is not followed here: put the file itself in its place",
            ));
        }
        self.count()?;
        if self.is_shared {
            self.found(judge(&self.at.join(name), &link, Kind::Link, None));
        }
        let target = PathBuf::from(readlinkat(&self.here, name)?);
        if target.is_absolute() {
            self.here = root()?;
            self.at = PathBuf::from("/");
            self.arrive()?;
        }
        self.plan(&target);
        Ok(true)
    }

    fn is_link(&self, name: &OsStr) -> io::Result<Option<FileStat>> {
        let stat = fstatat(&self.here, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        Ok((kind == SFlag::S_IFLNK).then_some(stat))
    }

    /// Repeats the step for `name`, which another process has changed.
    fn again(&mut self, name: OsString) -> io::Result<()> {
        self.todo.push(name);
        self.count()
    }

    fn count(&mut self) -> io::Result<()> {
        self.links += 1;
        if self.links > LINKS { Err(Errno::ELOOP.into()) } else { Ok(()) }
    }

    fn open(&self, name: &OsStr, flags: OFlag) -> nix::Result<File> {
        let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        openat(&self.here, name, flags, Mode::empty()).map(File::from)
    }

    fn finish(mut self, file: File, name: &OsStr) -> io::Result<OwnFile> {
        let metadata = file.metadata()?;
        let kind = if metadata.is_dir() { Kind::Folder } else { Kind::File };
        let of_file = metadata.file_type();
        // Only root can create devices. The parent process chose a pipe that this process has open already.
        let is_device = of_file.is_char_device() || of_file.is_block_device();
        let is_own_pipe =
            of_file.is_fifo() && (is_of_processes(&self.here) || self.at == Path::new("/dev/fd"));
        if !is_device && !is_own_pipe {
            self.found(judge(&self.at.join(name), &fstat(&file)?, kind, Some(file.as_fd())));
        }
        Ok(OwnFile { file, metadata, doubt: self.doubt })
    }

    /// Keeps the first doubt, which is the nearest to the root.
    fn found(&mut self, doubt: Option<Doubt>) {
        self.doubt = self.doubt.take().or(doubt);
    }
}

/// Flags to open a folder of the path, without permission to list it.
#[cfg(target_os = "linux")]
const FOLDER: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
#[cfg(not(target_os = "linux"))]
const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn root() -> nix::Result<OwnedFd> {
    open("/", FOLDER, Mode::empty())
}

#[cfg(target_os = "linux")]
fn is_of_processes(folder: &impl AsFd) -> bool {
    use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

    fstatfs(folder).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_of_processes(_: &impl AsFd) -> bool {
    false
}
