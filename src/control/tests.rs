use std::os::unix::fs::PermissionsExt as _;

use super::{Reply, Request, Server};

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
