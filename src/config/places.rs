//! Where the files of one person are.

use std::path::{Path, PathBuf};

use crate::{cli::Global, exit::Failure};

/// Longest path of a Unix socket: `sun_path` has 108 bytes on Linux, 104 on macOS, with the closing NUL.
const LONGEST_SOCKET_PATH: usize = 103;

/// The files below the home folder.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// `~/.mcpctl`, or what `--home` or `MCPCTL_HOME` say.
    pub(crate) home: PathBuf,
    /// The configuration.
    pub(crate) config: PathBuf,
    /// The hub's URL and token.
    pub(crate) credentials: PathBuf,
    /// The sticky session id.
    pub(crate) session_file: PathBuf,
    /// The control socket; `None` where no path is short enough.
    pub(crate) socket: Option<PathBuf>,
}

impl Places {
    /// Finds them.
    pub(crate) fn find(global: &Global) -> Result<Self, Failure> {
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

fn home_variable() -> Option<PathBuf> {
    std::env::var_os("MCPCTL_HOME").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// A variable that is set to something. What is no UTF-8 in it becomes what no address and no token has.
pub(crate) fn variable(name: &str) -> Option<String> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    Some(value.to_string_lossy().into_owned())
}

fn socket(home: &Path, runtime_dir: Option<PathBuf>) -> Option<PathBuf> {
    let is_short = |path: &PathBuf| path.as_os_str().len() <= LONGEST_SOCKET_PATH;
    let absolute = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
    Some(absolute.join("virtual-llm.sock")).filter(is_short).or_else(|| {
        // Two homes share the runtime folder: each has its own name there.
        let name = format!("virtual-llm-{:016x}.sock", fingerprint(absolute.as_os_str().as_encoded_bytes()));
        runtime_dir.map(|dir| dir.join(name)).filter(is_short)
    })
}

/// FNV-1a: the same in every build, unlike the standard library's hasher, so that two versions meet at one socket.
fn fingerprint(bytes: &[u8]) -> u64 {
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
