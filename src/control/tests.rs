use std::os::unix::fs::PermissionsExt as _;

use super::{Reply, Request, Server, is_heard};
use crate::config::Places;

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
async fn the_socket_is_for_its_owner_alone_and_goes_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new").join("s.sock");
    let server = Server::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(server);
    assert!(!path.exists());
}

/// In a folder where others can put a socket of theirs none is opened; one that takes no connections is somebody's.
#[actix_rt::test]
async fn a_socket_is_opened_only_where_nobody_else_can_put_one_and_nothing_waits() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o1777] {
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(Server::open(&folder.path().join("s.sock")).is_err(), "{mode:o}");
    }
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.path().join("s.sock");
    let deaf = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let waiting: Vec<_> = std::iter::repeat_with(|| is_heard(&path)).take(5000).collect();
    assert!(waiting.iter().all(|heard| *heard), "its queue is full in the end");
    assert!(Server::open(&path).is_err());
    drop(deaf);
    assert!(!is_heard(&path));
}

/// Whoever answers there is not believed, and not listened to for ever, if it is another user.
#[actix_rt::test]
async fn a_command_asks_nothing_of_another_users_socket() {
    const PATH: &str = "CONTROL_SOCKET_OF_THE_TEST";
    const STRANGER: u32 = 54_321;

    if let Some(path) = std::env::var_os(PATH) {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        // Ends with the test, which ends it.
        for stream in listener.incoming() {
            drop(std::io::Write::write_all(&mut stream.unwrap(), b"{\"ok\":null}\n"));
        }
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("REQUIRE_TOOLS").is_none_or(|value| value != "1"), "this wants root");
        return eprintln!("skipped: a socket of another user, which only root can make");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = folder.path().join("s.sock");
    let test = "control::tests::a_command_asks_nothing_of_another_users_socket";
    let this = folder.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &this).unwrap();
    let mut stranger =
        std::os::unix::process::CommandExt::uid(&mut std::process::Command::new(this), STRANGER)
            .args(["--exact", test])
            .env(PATH, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_mins(1);
    while !path.exists() && tokio::time::Instant::now() < deadline {
        actix_rt::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let below = |name: &str| folder.path().join(name);
    let places = Places {
        home: below("home"),
        config: below("config"),
        credentials: below("credentials"),
        session_file: below("session"),
        socket: Some(path),
    };
    let told = super::ask(&places, &Request::Pause { seconds: None }).await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let told = told.unwrap_err().text().unwrap_or_default().to_owned();
    assert!(told.contains("another user's"), "{told}");
}

#[actix_rt::test]
async fn a_socket_left_by_a_crash_is_replaced_and_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves the file");
    let living = Server::open(&path).unwrap();
    assert!(Server::open(&path).is_err());
    drop(living);
}
