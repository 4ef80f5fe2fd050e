//! Odd requests and answers, and the end of the command.

use std::{cell::RefCell, rc::Rc};

use testkit::{
    client::Answer,
    connection::{Request, SSE, answer, chunked},
    wait::PATIENCE,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::Scene;

/// A hub that answers each request with `ok` and stores it.
fn recording() -> (Scene, Rc<RefCell<Vec<Request>>>) {
    let requests = Rc::<RefCell<Vec<Request>>>::default();
    let seen = Rc::clone(&requests);
    let scene = Scene::start(async move |mut connection| {
        loop {
            let request = connection.request().await?;
            let body = if request.method == "HEAD" { "" } else { "ok" };
            seen.borrow_mut().push(request);
            connection.write(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{body}")).await?;
        }
    });
    (scene, requests)
}

/// Everything until the server closes the connection.
async fn rest(mut socket: tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

#[actix_rt::test]
async fn the_hub_gets_a_request_of_its_own_host_with_the_token() {
    let (scene, requests) = recording();
    let head = "POST /chat/completions/?a=b HTTP/1.1\r\nauthorization: Bearer ollama\r\ncookie: a=1\r\n\
                x-forwarded-for: 10.0.0.1\r\ncontent-length: 2\r\n";
    assert_eq!(scene.ask(head, b"{}").await.text().await.unwrap(), "ok");
    let request = requests.borrow_mut().pop().unwrap();
    assert_eq!((request.target.as_str(), request.body.as_slice()), ("/v1/chat/completions?a=b", &b"{}"[..]));
    assert_eq!(request.header("authorization"), Some("Bearer tok"));
    assert_eq!(request.header("host"), Some(&*scene.hub.address().to_string()));
    for name in ["cookie", "x-forwarded-for", "connection", "transfer-encoding"] {
        assert_eq!(request.header(name), None, "{name}");
    }
}

#[actix_rt::test]
async fn head_and_http_1_0_have_their_framing() {
    let (scene, requests) = recording();
    let head = scene.send("HEAD /v1/models HTTP/1.1\r\nconnection: close\r\n", b"").await;
    let head = rest(head).await.to_lowercase();
    assert!(head.contains("content-length: 2\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(requests.borrow()[0].method, "HEAD");

    let scene = Scene::start(async |mut connection| {
        connection.request().await?;
        connection.write(format!("{SSE}{}{}", chunked("one"), chunked("two"))).await?;
        connection.write("0\r\n\r\n").await
    });
    let old = rest(scene.send("GET /v1/models HTTP/1.0\r\n", b"").await).await.to_lowercase();
    assert!(!old.contains("transfer-encoding") && old.ends_with("\r\n\r\nonetwo"), "{old}");
}

#[actix_rt::test]
async fn a_caller_that_waits_for_100_continue_is_told() {
    let (scene, requests) = recording();
    let head = "POST /v1/embeddings HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n";
    let mut socket = scene.send(head, b"").await;
    let mut told = [0; 25];
    timeout(PATIENCE, socket.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"body").await.unwrap();
    assert_eq!(Answer::read(socket).await.unwrap().text().await.unwrap(), "ok");
    assert_eq!(requests.borrow()[0].body, b"body");
}

#[actix_rt::test]
async fn interim_answers_of_the_hub_are_skipped() {
    let scene = Scene::start(async |mut connection| {
        connection.request().await?;
        connection.write("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await?;
        connection.write(answer(200, "", "ok")).await
    });
    let got = scene.ask("GET /v1/models HTTP/1.1\r\n", b"").await;
    assert_eq!((got.status, got.text().await.unwrap().as_str()), (200, "ok"));
}

#[actix_rt::test]
async fn an_upload_that_the_hub_refuses_early_gets_the_hubs_reason() {
    let body = vec![b'x'; 20 << 20];
    let head = format!("POST /v1/embeddings HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    for _ in 0..10 {
        let scene = Scene::start(async |mut connection| {
            connection.head().await?;
            connection.write(answer(413, "connection: close\r\n", "too large")).await?;
            // As servers do that want their answer to arrive.
            connection.shutdown().await?;
            let (mut from, _) = connection.halves();
            tokio::io::copy(&mut from, &mut tokio::io::sink()).await.map(|_| ())
        });
        let got = scene.ask(&head, &body).await;
        assert_eq!((got.status, got.text().await.unwrap().as_str()), (413, "too large"));
    }
}

#[actix_rt::test]
async fn an_upload_that_is_refused_here_gets_its_reason() {
    let (scene, requests) = recording();
    let body = vec![b'x'; 20 << 20];
    let head = format!("POST /api/v1/tokens HTTP/1.1\r\ncontent-length: {}\r\n", body.len());
    let got = scene.ask(&head, &body).await;
    assert_eq!(got.status, 404);
    assert!(got.text().await.unwrap().contains("not this path"));
    assert_eq!(requests.borrow().len(), 0);
}

#[actix_rt::test]
async fn a_connection_of_a_refused_request_is_not_used_again() {
    let scene = Scene::start(async |mut connection| {
        loop {
            connection.request().await?;
            connection.write(answer(404, "", "no")).await?;
        }
    });
    for count in 1..4 {
        let got = scene.ask("POST /v1/embeddings HTTP/1.1\r\ncontent-length: 2\r\n", b"{}").await;
        assert_eq!(got.text().await.unwrap(), "no");
        assert_eq!(scene.hub.connections(), count);
    }
    let (scene, _) = recording();
    for _ in 1..4 {
        let got = scene.ask("POST /v1/embeddings HTTP/1.1\r\ncontent-length: 2\r\n", b"{}").await;
        assert_eq!(got.text().await.unwrap(), "ok");
        assert_eq!(scene.hub.connections(), 1, "that of an answered request is");
    }
}

#[actix_rt::test]
async fn a_connection_that_the_hub_closed_while_idle_is_not_noticed() {
    let scene = Scene::start(async |mut connection| {
        connection.request().await?;
        connection.write(answer(200, "", "ok")).await
    });
    for _ in 0..20 {
        let got = scene.ask("POST /v1/embeddings HTTP/1.1\r\ncontent-length: 2\r\n", b"{}").await;
        assert_eq!((got.status, got.text().await.unwrap().as_str()), (200, "ok"));
    }
}

#[actix_rt::test]
async fn a_redirect_is_not_followed() {
    let scene = Scene::start(async |mut connection| {
        connection.request().await?;
        connection.write(answer(302, "location: https://login.example/\r\n", "")).await
    });
    let got = scene.ask("GET /v1/models HTTP/1.1\r\n", b"").await;
    assert_eq!((got.status, got.header("location")), (502, None));
    assert!(got.text().await.unwrap().contains("points elsewhere (302 Found)"));
}

#[actix_rt::test]
async fn a_running_answer_ends_whole_when_the_command_ends() {
    let (release, released) = tokio::sync::watch::channel(false);
    let scene = Scene::start(async move |mut connection| {
        connection.request().await?;
        connection.write(format!("{SSE}{}", chunked("data: 1\n\n"))).await?;
        let _ = released.clone().changed().await;
        connection.write(format!("{}0\r\n\r\n", chunked("data: 2\n\n"))).await
    });
    let mut answer = scene.ask("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n", b"{}").await;
    answer.next().await.unwrap().unwrap();
    let port = scene.port;
    let stopping = tokio::task::spawn_local(scene.server.stop());
    testkit::wait::port_is_free(port).await;
    release.send_replace(true);
    assert_eq!(answer.text().await.unwrap(), "data: 2\n\n");
    timeout(PATIENCE, stopping).await.unwrap().unwrap();
}
