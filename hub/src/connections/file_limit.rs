//! The process's limit of open files: a connection is one.

/// Raises the limit as far as the system allows, and returns it.
#[cfg(unix)]
pub(crate) fn raise_file_limit() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    // Some systems report a hard limit and allow less: then the soft one stays.
    let raised = soft >= hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
pub(crate) fn raise_file_limit() -> usize {
    usize::MAX
}
