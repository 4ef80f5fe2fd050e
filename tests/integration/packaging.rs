//! The Debian package, packed from the program under test.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::process::{Home, program};
use testkit::{free_port, skipped};

/// The exit status of `installed.sh` where the system lets it have no copy of itself.
const NO_COPY: i32 = 77;

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn is_there(tool: &str) -> bool {
    let search = format!("command -v {tool} >/dev/null");
    Command::new("sh").args(["-c", &search]).status().unwrap().success()
}

/// Installed in a copy of this system that is dropped: nothing of the machine changes.
#[test]
fn the_package_installs_serves_and_leaves_nothing_after_a_purge() {
    for tool in ["dpkg-deb", "dpkg-shlibdeps", "strip", "unshare", "adduser"] {
        if !is_there(tool) {
            return skipped(&format!("the Debian package, as {tool} is not installed"));
        }
    }
    if !nix::unistd::geteuid().is_root() {
        return skipped("the Debian package, which root installs");
    }
    let (home, root) = (Home::new(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let package = home.path().join("virtual-llm.deb");
    let mut pack = Command::new(root.join("packaging/deb.sh"));
    let packed = run(pack.arg("--fast").arg("--program").arg(program()).arg("-o").arg(&package));
    assert!(packed.status.success() && package.exists(), "{packed:?}");

    let mut install = Command::new("unshare");
    install.arg("--mount").arg(root.join("tests/packaging/installed.sh")).arg(&package);
    let installed = run(install.arg(free_port().to_string()));
    if installed.status.code() == Some(NO_COPY) {
        return skipped("the Debian package, as the system has no overlay for a copy of itself");
    }
    assert!(
        installed.status.success() && installed.status.signal().is_none(),
        "{}{}",
        String::from_utf8_lossy(&installed.stdout),
        String::from_utf8_lossy(&installed.stderr)
    );
}
