//! Paths of the files that the commands read and write.

use std::path::{Path, PathBuf};

use crate::{cli::Global, exit::Failure};

/// Longest path of a Unix socket in bytes: `sun_path` has 108 on Linux, 104 on macOS, with the closing NUL.
const MAX_SOCKET_PATH: usize = 103;

/// Paths of the user's files.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// `~/.mcpctl`, or the value of `--home` or `MCPCTL_HOME`.
    pub(crate) home: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) credentials: PathBuf,
    pub(crate) session_file: PathBuf,
    /// The control socket; `None` if every possible path is too long.
    pub(crate) socket: Option<PathBuf>,
}

impl Paths {
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
        let home_variable =
            || std::env::var_os("MCPCTL_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = match global.home.clone().or_else(home_variable) {
            Some(home) => home,
            None => std::env::home_dir()
                .filter(|home| !home.as_os_str().is_empty())
                .ok_or_else(|| Failure::usage("there is no home folder: set HOME, or give --home DIR"))?
                .join(".mcpctl"),
        };
        let below = |given: &Option<PathBuf>, name: &str| given.clone().unwrap_or_else(|| home.join(name));
        Ok(Self {
            config: below(&global.config, "config.json"),
            credentials: below(&global.credentials, "credentials"),
            session_file: below(&global.session_file, "provider-session"),
            socket: socket(&home, std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)),
            home,
        })
    }
}

/// Value of an environment variable; `None` if it is unset or empty. Invalid UTF-8 becomes U+FFFD, which no URL and no
/// token may contain.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}

fn socket(home: &Path, runtime_dir: Option<PathBuf>) -> Option<PathBuf> {
    let fits = |path: &PathBuf| path.as_os_str().len() <= MAX_SOCKET_PATH;
    let absolute = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    Some(absolute.join("virtual-llm.sock")).filter(fits).or_else(|| {
        // All homes share the runtime folder, so the name of the socket contains a hash of its home.
        let name = format!("virtual-llm-{:016x}.sock", fnv1a(absolute.as_os_str().as_encoded_bytes()));
        runtime_dir.map(|dir| dir.join(name)).filter(fits)
    })
}

/// FNV-1a hash: equal in every build, unlike `DefaultHasher`, so that two versions of the program find one socket.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_too_deep_for_a_socket_has_it_in_the_runtime_folder() {
        let runtime = Some(PathBuf::from("/run/user/1000"));
        let short = socket(Path::new("/home/a/.mcpctl"), runtime.clone()).unwrap();
        assert_eq!(short, Path::new("/home/a/.mcpctl/virtual-llm.sock"));
        let deep = format!("/{}", "d/".repeat(100));
        let elsewhere = socket(Path::new(&deep), runtime.clone()).unwrap();
        assert!(elsewhere.starts_with("/run/user/1000"));
        assert_ne!(Some(elsewhere), socket(Path::new(&format!("{deep}other")), runtime));
        assert_eq!(socket(Path::new(&deep), None), None);
    }
}
