//! A list of who may do what, beside a mode. Where there is one, the mode's bits of the group are its mask: they tell the
//! most that anybody in the list may, and nothing of who that is.

use std::os::fd::BorrowedFd;

/// Whether `file` has such a list, or is a folder that gives one to what is made in it. One that cannot be asked for is
/// taken for one.
#[cfg(target_os = "linux")]
pub(crate) fn is_there(file: BorrowedFd<'_>) -> bool {
    use std::os::fd::AsRawFd;

    use rustix::fs::{fgetxattr, getxattr};
    use rustix::io::Errno;

    ["system.posix_acl_access", "system.posix_acl_default"].into_iter().any(|name| {
        let mut nothing: [u8; 0] = [];
        let size = match fgetxattr(file, name, &mut nothing) {
            // A folder that is only gone through cannot be asked itself.
            Err(Errno::BADF) => getxattr(format!("/proc/self/fd/{}", file.as_raw_fd()), name, &mut nothing),
            asked => asked,
        };
        // Some file systems have none.
        !matches!(size, Err(Errno::NODATA | Errno::OPNOTSUPP))
    })
}

/// The lists of other systems stand in no attribute.
#[cfg(not(target_os = "linux"))]
pub(crate) fn is_there(_: BorrowedFd<'_>) -> bool {
    false
}
