//! What is wrong with a file or with the way to it, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::sys::stat::FileStat;
use nix::unistd::geteuid;

/// Write permission of group and others.
const WRITE: u32 = 0o022;
/// In a folder with this bit only its owner takes a file away.
const STICKY: u32 = 0o1000;

/// Why somebody else may have written a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Its mode, or that of a folder on the way, lets others write.
    Mode {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether it is a folder on the way; else the file's own mode says so, which its owner can mend.
        is_folder: bool,
    },
    /// It is, or a folder or link on the way is, another user's.
    Owner {
        /// The file, folder or link.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
}

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    /// What it says cannot be changed, only who made it counts.
    Link,
}

/// What speaks against it. Whoever may write as root or as this process needs no file to do so.
pub(crate) fn judge(path: &std::path::Path, stat: &FileStat, kind: Kind) -> Option<Doubt> {
    let is_ours = stat.st_uid == 0 || stat.st_uid == geteuid().as_raw();
    let is_place = kind == Kind::Folder && is_of_whoever_made_this_place(stat.st_uid);
    if !is_ours && !is_place {
        return Some(Doubt::Owner { path: path.to_owned(), owner: stat.st_uid });
    }
    // `mode_t` is narrower on macOS.
    #[allow(clippy::useless_conversion)]
    let mode = u32::from(stat.st_mode) & 0o7777;
    let is_open = match kind {
        Kind::File => mode & WRITE != 0,
        Kind::Folder => mode & WRITE != 0 && mode & STICKY == 0,
        Kind::Link => false,
    };
    is_open.then(|| Doubt::Mode { path: path.to_owned(), mode, is_folder: kind == Kind::Folder })
}

/// Whether it is the user that stands for all whom a user namespace does not know, in such a namespace: there the folders
/// from the root on are of whoever made it.
#[cfg(target_os = "linux")]
fn is_of_whoever_made_this_place(uid: u32) -> bool {
    use std::fs::read_to_string;
    use std::sync::LazyLock;

    static UNKNOWN: LazyLock<Option<u32>> = LazyLock::new(|| {
        let known = read_to_string("/proc/self/uid_map").ok()?;
        let knows_all = known.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        let unknown = read_to_string("/proc/sys/kernel/overflowuid").ok()?;
        (!knows_all).then(|| unknown.trim().parse().ok()).flatten()
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
            Self::Mode { path, mode, .. } => {
                let path = path.display();
                write!(f, "others can write {path} (mode {mode:04o}): run `chmod go-w {path}`")
            }
            Self::Owner { path, owner } => {
                let (path, us) = (path.display(), geteuid());
                write!(f, "{path} is user {owner}'s, who can write it: run `chown -h {us} {path}`")
            }
        }
    }
}

impl From<&Doubt> for io::Error {
    fn from(doubt: &Doubt) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, doubt.to_string())
    }
}
