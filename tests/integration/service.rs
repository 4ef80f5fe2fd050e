//! Service managers: the notifications ready, watchdog and stopping, and the installed unit files.

use std::{path::Path, time::Duration};

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::process::{Home, Process};
use testkit::skipped;
use testkit::wait::PATIENCE;
use tokio::{net::UnixDatagram, time::timeout};

/// The service manager's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).unwrap())
    }

    /// Waits until the service has sent `state`.
    async fn receives(&self, state: &str) {
        let mut text = [0; 64];
        let heard = async {
            loop {
                let length = self.0.recv(&mut text).await.unwrap();
                if &text[..length] == state.as_bytes() {
                    return;
                }
            }
        };
        timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("the service did not send {state}"));
    }
}

/// Waits until the service has reported that it is ready and, twice, alive; then stops it, and checks that it reports this
/// and exits with 0.
async fn reports_its_states(manager: &Manager, service: Process) {
    for state in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        manager.receives(state).await;
    }
    service.signal(Signal::SIGTERM);
    manager.receives("STOPPING=1").await;
    assert_eq!(service.end().await.code(), 0);
}

fn start(home: &Home, socket: &Path, args: &[&str]) -> Process {
    let mut command = home.command(args);
    command
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", Duration::from_millis(200).as_micros().to_string());
    Process::new(command.spawn().unwrap())
}

#[actix_rt::test]
async fn a_hub_notifies_its_manager_when_ready_alive_and_stopping() {
    let home = Home::new();
    let socket = home.path().join("notify");
    let manager = Manager::at(&socket);
    let hub = start(&home, &socket, &["hub", "--in-memory", "--listen", "127.0.0.1:0"]);
    reports_its_states(&manager, hub).await;
}

#[actix_rt::test]
async fn a_registrar_is_ready_while_its_hub_is_away() {
    let home = Home::new();
    // No server listens on port 9 (discard).
    home.credentials("http://127.0.0.1:9", "token");
    home.providers(&json!([{ "name": "demo", "type": "mock", "publish": true }]));
    let socket = home.path().join("notify");
    let manager = Manager::at(&socket);
    let registrar = start(&home, &socket, &["publish"]);
    reports_its_states(&manager, registrar).await;
}

#[actix_rt::test]
async fn a_registrar_with_nothing_to_publish_does_not_look_like_a_failed_service() {
    let home = Home::new();
    let socket = home.path().join("notify");
    let manager = Manager::at(&socket);
    let registrar = start(&home, &socket, &["publish"]);
    manager.receives("READY=1").await;
    assert_eq!(registrar.end().await.code(), 0);
}

/// A user who can write a unit file, or a folder on its path, can run any command as the owner of the service.
#[actix_rt::test]
async fn installed_files_are_writable_by_their_owner_only_with_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::new();
    let man = home.path().join(".local/share/man/man1");
    for words in [&["service", "install", "--manager", "systemd"][..], &["man", man.to_str().unwrap()]] {
        let ran = Process::new(home.command_after("umask 000", words).spawn().unwrap()).end().await;
        assert_eq!(ran.code(), 0, "{ran:?}");
    }
    let unit = home.path().join(".config/systemd/user/virtual-llm.service");
    let page = man.join("virtual-llm.1");
    let ways = unit.ancestors().chain(page.ancestors());
    for path in ways.filter(|path| path.starts_with(home.path()) && *path != home.path()) {
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0, "{path:?}: {mode:o}");
    }
}

#[actix_rt::test]
async fn service_install_writes_a_user_unit_and_prints_how_to_start_it() {
    let home = Home::new();
    let outcome = home.run(&["service", "install", "--manager", "systemd", "--config", "/etc/x.json"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stdout.contains("systemctl --user enable --now virtual-llm"), "{outcome:?}");
    let unit = std::fs::read_to_string(home.path().join(".config/systemd/user/virtual-llm.service")).unwrap();
    assert!(unit.contains("Type=notify\n") && unit.contains(" publish --config /etc/x.json\n"), "{unit}");

    let changed = home.run(&["service", "install", "--manager", "systemd"]).await;
    assert_eq!(changed.code(), 1, "{changed:?}");
    assert!(changed.stderr.contains("--force replaces it"), "{changed:?}");
}

/// F62: systemd would start a unit that was cut off. The limit of the file size stands for a full disk.
#[actix_rt::test]
async fn a_unit_that_cannot_be_written_stays_as_it_was() {
    let home = Home::new();
    let install = ["service", "install", "--manager", "systemd", "--force"];
    assert_eq!(home.run(&install).await.code(), 0);
    let unit = home.path().join(".config/systemd/user/virtual-llm.service");
    let before = std::fs::read_to_string(&unit).unwrap();
    let changed = [&install[..], &["--config", "/etc/x.json"]].concat();
    let mut command = home.command_after("trap '' XFSZ; ulimit -f 0", &changed);
    let outcome = Process::new(command.spawn().unwrap()).end().await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), before);
    let folder = unit.parent().unwrap().read_dir().unwrap();
    assert_eq!(folder.count(), 1, "no temporary file is left");
}

/// All users can read a unit.
#[actix_rt::test]
async fn a_unit_never_holds_a_proxy_password() {
    let home = Home::new();
    let install = ["service", "install", "publish", "--manager", "systemd", "--print"];
    let proxy = "http://user:canary@proxy.test:3128";
    let joined = format!("--proxy={proxy}");
    for proxied in [&["--proxy", proxy][..], &["--", "--proxy", proxy], &["--", &joined], &[&joined]] {
        let outcome = home.run(&[&install[..], proxied].concat()).await;
        assert_eq!(outcome.code(), 2, "{outcome:?}");
        assert!(!outcome.stdout.contains("canary") && !outcome.stderr.contains("canary"), "{outcome:?}");
        assert!(outcome.stderr.contains("write them into the credentials file"), "{outcome:?}");
    }
    let plain = home.run(&[&install[..], &["--proxy", "http://proxy.test:3128"]].concat()).await;
    assert!(plain.stdout.contains("--proxy http://proxy.test:3128"), "{plain:?}");
}

#[actix_rt::test]
async fn systemd_accepts_both_units() {
    let home = Home::new();
    for (name, what, of_user) in
        [("virtual-llm.service", "publish", true), ("virtual-llm-hub.service", "hub", false)]
    {
        let printed = home.run(&["service", "install", what, "--manager", "systemd", "--print"]).await;
        let unit = home.path().join(name);
        std::fs::write(&unit, &printed.stdout).unwrap();
        let mut verify = std::process::Command::new("systemd-analyze");
        verify.args(of_user.then_some("--user")).arg("verify").arg(&unit);
        // systemd's user mode needs a runtime directory.
        let Ok(said) = verify.env("XDG_RUNTIME_DIR", home.path()).output() else {
            return skipped("both units in systemd-analyze, which is not installed");
        };
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && !words.contains(name), "{unit:?}: {words}");
    }
}

/// `systemd-analyze security` rates what a unit may do, from 0 (little) to 100.
#[actix_rt::test]
async fn the_hubs_unit_has_a_low_exposure_score() {
    let home = Home::new();
    for (listen, most) in [("127.0.0.1:8787", "20"), ("0.0.0.0:443", "25")] {
        let words =
            ["service", "install", "hub", "--manager", "systemd", "--print", "--", "--listen", listen];
        let printed = home.run(&words).await;
        let unit = home.path().join("virtual-llm-hub.service");
        std::fs::write(&unit, &printed.stdout).unwrap();
        let mut analyze = std::process::Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager", "--threshold", most]).arg(&unit);
        let Ok(said) = analyze.output() else {
            return skipped("the score of the hub's unit, as systemd-analyze is not installed");
        };
        let table = String::from_utf8_lossy(&said.stdout);
        assert!(
            table.contains("Overall exposure level"),
            "{table} {}",
            String::from_utf8_lossy(&said.stderr)
        );
        assert!(said.status.success(), "{listen}: {table}");
        assert!(!String::from_utf8_lossy(&said.stderr).contains("ignoring"), "{said:?}");
    }
}
