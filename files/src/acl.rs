//! Access control lists. With a list, the group bits of the mode are its mask: the most rights that an entry can have.

use std::os::fd::BorrowedFd;

/// Whether `file` has a list, or is a folder with a default list for new files. If that cannot be read, the result is true.
#[cfg(target_os = "linux")]
pub(crate) fn is_there(file: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;

    use rustix::fs::{fgetxattr, getxattr};
    use rustix::io::Errno;

    ["system.posix_acl_access", "system.posix_acl_default"].into_iter().any(|name| {
        let mut nothing: [u8; 0] = [];
        let size = match fgetxattr(file, name, &mut nothing) {
            // A descriptor with O_PATH has no attributes.
            Err(Errno::BADF) => getxattr(format!("/proc/self/fd/{}", file.as_raw_fd()), name, &mut nothing),
            asked => asked,
        };
        // EOPNOTSUPP: the file system has no lists.
        !matches!(size, Err(Errno::NODATA | Errno::OPNOTSUPP))
    })
}

/// Other systems do not store lists in attributes.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_there(_: BorrowedFd<'_>) -> bool {
    false
}
