//! Reasons why another user could have written a file, with advice.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::FileStat;
use nix::unistd::{Uid, geteuid};

use crate::{acl, group};

/// Write permission of group and others.
const WRITE: u32 = 0o022;
/// Write permission of others.
const OTHERS_WRITE: u32 = 0o002;
/// Sticky bit: in a folder with it, only the owner of a file can remove the file.
const STICKY: u32 = 0o1000;

/// Reason why another user may have written a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Others can write the file or a folder of its path.
    Mode {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether `path` is a folder of the path, not the file itself.
        is_folder: bool,
    },
    /// The file, or a folder or link of its path, belongs to another user.
    Owner {
        /// The file, folder or link.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Whether `path` is a folder of the path, not the file itself.
        is_folder: bool,
    },
}

/// Kind of the checked object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// A folder of the path. In a sticky one existing files are safe.
    Folder,
    /// The folder of a new file. Others could create the file first, in a sticky one too.
    Place,
    /// A link, whose target cannot be changed: only its owner matters.
    Link,
}

/// Checks an object; `file` is its descriptor, if it is open. Root and the user of this process may always write.
pub(crate) fn judge(path: &Path, stat: &FileStat, kind: Kind, file: Option<BorrowedFd<'_>>) -> Option<Doubt> {
    judge_for(geteuid(), path, stat, kind, file)
}

/// As [`judge`], for a process of the user `us`.
pub(crate) fn judge_for(
    us: Uid,
    path: &Path,
    stat: &FileStat,
    kind: Kind,
    file: Option<BorrowedFd<'_>>,
) -> Option<Doubt> {
    let is_folder = matches!(kind, Kind::Folder | Kind::Place);
    let is_ours = stat.st_uid == 0 || stat.st_uid == us.as_raw();
    if !(is_ours || is_folder && is_of_whoever_made_this_place(stat.st_uid)) {
        return Some(Doubt::Owner { path: path.to_owned(), owner: stat.st_uid, is_folder });
    }
    // `mode_t` is narrower on macOS.
    #[allow(clippy::useless_conversion)]
    let mode = u32::from(stat.st_mode) & 0o7777;
    let can_others = match kind {
        Kind::File | Kind::Place => mode & WRITE != 0,
        Kind::Folder => mode & WRITE != 0 && mode & STICKY == 0,
        Kind::Link => false,
    };
    let is_groups_alone = || group::is_private(stat.st_uid, stat.st_gid) && !file.is_some_and(acl::is_there);
    let is_open = can_others && (mode & OTHERS_WRITE != 0 || !is_groups_alone());
    is_open.then(|| Doubt::Mode { path: path.to_owned(), mode, is_folder })
}

/// Whether `uid` is the user that represents all users unknown to the user namespace, and `/` belongs to it too: then the
/// creator of the namespace owns the folders from the root on. If `/` belongs to root, such a folder is another user's.
#[cfg(target_os = "linux")]
fn is_of_whoever_made_this_place(uid: u32) -> bool {
    use std::fs::{metadata, read_to_string};
    use std::os::unix::fs::MetadataExt;
    use std::sync::LazyLock;

    static UNKNOWN: LazyLock<Option<u32>> = LazyLock::new(|| {
        let known = read_to_string("/proc/self/uid_map").ok()?;
        let knows_all = known.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        let unknown = read_to_string("/proc/sys/kernel/overflowuid").ok()?.trim().parse().ok()?;
        let top = metadata("/").ok()?.uid();
        (!knows_all && top == unknown).then_some(unknown)
    });
    *UNKNOWN == Some(uid)
}

#[cfg(not(target_os = "linux"))]
fn is_of_whoever_made_this_place(_: u32) -> bool {
    false
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The mode of `/tmp` must not be changed.
            Self::Mode { path, mode, is_folder: true } if mode & STICKY != 0 => {
                let path = path.display();
                write!(f, "others can put files into {path} (mode {mode:04o}): choose a folder of your own")
            }
            Self::Mode { path, mode, .. } => {
                let word = word(path);
                write!(f, "others can write {} (mode {mode:04o}): run `chmod go-w {word}`", path.display())
            }
            Self::Owner { path, owner, is_folder } => {
                write!(f, "{} is user {owner}'s, who can write it: ", path.display())?;
                let us = geteuid();
                match is_folder {
                    true => write!(f, "keep what is in it elsewhere, or run this as that user"),
                    false if us.is_root() => write!(f, "run `chown -h 0 {}`", word(path)),
                    false => write!(
                        f,
                        "put a copy of your own in its place, or run `sudo chown -h {us} {}`",
                        word(path)
                    ),
                }
            }
        }
    }
}

/// Quotes a path as one word for a shell.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte)) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl From<&Doubt> for io::Error {
    fn from(doubt: &Doubt) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, doubt.to_string())
    }
}
