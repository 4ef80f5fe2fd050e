use std::os::unix::fs::PermissionsExt as _;

use testkit::wait::wait_until;

use super::{Reply, Request, Server, is_open};
use crate::config::Paths;

#[test]
fn a_request_is_one_line_that_reads_back() {
    for request in [
        Request::Status,
        Request::Pause { seconds: Some(7_200.0) },
        Request::Pause { seconds: None },
        Request::Resume,
        Request::Reload,
        Request::Up { provider: "a\nb".to_owned() },
    ] {
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
    let reply: Reply = serde_json::from_str(r#"{"error":"no"}"#).unwrap();
    assert_eq!(reply, Reply::Error("no".to_owned()));
}

#[actix_rt::test]
async fn the_socket_is_private_and_deleted_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("s.sock");
    let server = Server::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!path.exists());
}

/// A socket whose queue of connections is full counts as in use.
#[actix_rt::test]
async fn a_socket_is_opened_only_in_a_folder_of_its_own_user() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o1777] {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(Server::open(&folder.path().join("s.sock")).is_err(), "{mode:o}");
    }
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("s.sock");
    let idle = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let waiting: Vec<_> = std::iter::repeat_with(|| is_open(&path)).take(5000).collect();
    assert!(waiting.iter().all(|is_open| *is_open), "the queue is full in the end");
    assert!(Server::open(&path).is_err());
    drop(idle);
    assert!(!is_open(&path));
}

#[actix_rt::test]
async fn a_command_sends_nothing_to_a_socket_of_another_user() {
    const PATH: &str = "CONTROL_SOCKET_OF_THE_TEST";
    const OTHER_USER: u32 = 54_321;

    if let Some(path) = std::env::var_os(PATH) {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        // The server runs until the test kills its process.
        for stream in listener.incoming() {
            drop(std::io::Write::write_all(&mut stream.unwrap(), b"{\"ok\":null}\n"));
        }
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this test needs root");
        return eprintln!("skipped: a socket of another user, which only root can create");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("s.sock");
    let test = "control::tests::a_command_sends_nothing_to_a_socket_of_another_user";
    let this = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &this).unwrap();
    let mut other =
        std::os::unix::process::CommandExt::uid(&mut std::process::Command::new(this), OTHER_USER)
            .args(["--exact", test])
            .env(PATH, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
    wait_until("the other user's socket is there", || path.exists()).await;
    let below = |name: &str| folder.path().join(name);
    let paths = Paths {
        home: below("home"),
        config: below("config"),
        credentials: below("credentials"),
        session_file: below("session"),
        socket: Some(path),
    };
    let reply = super::ask(&paths, &Request::Pause { seconds: None }).await;
    other.kill().unwrap();
    other.wait().unwrap();
    let text = reply.unwrap_err().text().unwrap_or_default().to_owned();
    assert!(text.contains("another user's"), "{text}");
}

#[actix_rt::test]
async fn a_socket_is_replaced_only_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves the file");
    let running = Server::open(&path).unwrap();
    assert!(Server::open(&path).is_err());
    drop(running);
}
