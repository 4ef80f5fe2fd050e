mod framing;
mod names;
mod reuse;
mod unsolicited;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use testkit::connection::Connection;
use testkit::peer::Peer;
use testkit::wait::wait_until;
use tokio::time::sleep;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);

/// A server that answers the requests on a connection with `answers` in order, and closes it after the last one. In an answer,
/// `{n}` is replaced by the request's body.
fn server(answers: Vec<Vec<u8>>) -> Peer {
    Peer::start(async move |mut connection| serve(&mut connection, &answers).await)
}

async fn serve(connection: &mut Connection, answers: &[Vec<u8>]) -> io::Result<()> {
    for text in answers {
        echo(connection, text).await?;
    }
    Ok(())
}

/// Answers the next request with `text`, in which `{n}` is replaced by the request's body.
async fn echo(connection: &mut Connection, text: &[u8]) -> io::Result<()> {
    let request = connection.request().await?;
    connection.write(replaced(text, b"{n}", &request.body)).await
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fn post(url: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(url).body(body.into()).unwrap()
}

/// Sends `body`. Returns the status and the body of the answer.
async fn ask(client: &Client, url: &str, body: impl Into<Bytes>) -> Result<(u16, String), String> {
    let answer = client.send(post(url, body), LIMIT).await.map_err(|error| error.to_string())?;
    let status = answer.status().as_u16();
    let body = read_body(answer.into_body(), 1 << 20, LIMIT).await.map_err(|error| error.to_string())?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{n}";

/// A body without a length ends with its connection. A body shorter than its length is an error.
#[actix_rt::test]
async fn a_body_ends_by_its_length_its_last_chunk_or_its_connection() {
    let client = Client::new(None);
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\n\r\nall of it", Ok("all of it")),
        ("HTTP/1.0 200 OK\r\n\r\nall of it", Ok("all of it")),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nit", Ok("it")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nit", Ok("it")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nit", Err("in the middle")),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nit", Err("not HTTP")),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nit", Err("not HTTP")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nit\r\n", Err("in the middle")),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nit\r\n0\r\n\r\n", Err("in the middle")),
        ("SSH-2.0-OpenSSH_9\r\n", Err("not HTTP")),
        ("HTTP/1.1 2", Err("ended before")),
        ("", Err("ended before")),
    ] {
        let server = server(vec![answer.into()]);
        match (ask(&client, &server.url(), "x").await, body) {
            (Ok((_, got)), Ok(body)) => assert_eq!(got, body, "{answer:?}"),
            (Err(error), Err(words)) => assert!(error.contains(words), "{answer:?}: {error}"),
            (got, _) => panic!("{answer:?}: {got:?}"),
        }
    }
}

/// The client reads an answer that comes before the server has read the upload, whether the server then closes, resets or waits.
#[actix_rt::test]
async fn an_answer_before_the_end_of_an_upload_is_read() {
    for how in ["close", "wait", "reset"] {
        let server = Peer::start(async move |mut connection| {
            connection.head().await?;
            connection.write("HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge").await?;
            match how {
                // Closing a socket with unread bytes resets the connection.
                "close" => connection.shutdown().await?,
                "wait" => sleep(LIMIT).await,
                _ => (),
            }
            Ok(())
        });
        let client = Client::new(None);
        let answer = ask(&client, &server.url(), vec![b'x'; 32 << 20]).await;
        assert_eq!(answer, Ok((413, "large".to_owned())), "{how}");
    }
}

/// F75: dropping an answer closes its connection at once.
#[actix_rt::test]
async fn dropping_an_answer_closes_its_connection() {
    let closed = Rc::<Cell<bool>>::default();
    let seen = Rc::clone(&closed);
    let server = Peer::start(async move |mut connection| {
        connection.request().await?;
        connection.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
        connection.closed().await;
        seen.set(true);
        Ok(())
    });
    let answer = Client::new(None).send(post(&server.url(), "x"), LIMIT).await.unwrap();
    drop(answer);
    wait_until("the connection is closed", || closed.get()).await;
}

#[actix_rt::test]
async fn each_kind_of_failed_connect_has_its_own_error() {
    let client = Client::new(None);
    let error = async |url: &str| client.send(post(url, "x"), LIMIT).await.err();
    assert_eq!(error("http://127.0.0.1:1/x").await, Some(SendError::Unreachable));
    assert_eq!(error("https://127.0.0.1:1/x").await, Some(SendError::NoTls));
    assert_eq!(error("/x").await, Some(SendError::Invalid));
    let plain = Peer::start(async |mut connection| {
        connection.write("HTTP/1.1 400 Plain HTTP\r\n\r\n").await?;
        connection.closed().await;
        Ok(())
    });
    let url = plain.url().replace("http:", "https:");
    let tls = Client::new(Some(tls_config(None).unwrap()));
    assert_eq!(tls.send(post(&url, "x"), LIMIT).await.err(), Some(SendError::Tls));
}

/// F81: a name with one dead address is reached at its other address, and an IPv6 address in brackets is used as an address.
#[actix_rt::test]
async fn each_address_of_a_name_is_tried() {
    for own in ["127.0.0.1", "::1"] {
        // The machine may lack this address family.
        let serve = async |mut connection: Connection| echo(&mut connection, ANSWER.as_bytes()).await;
        let Ok(server) = Peer::on((own, 0), serve) else { continue };
        let port = server.port();
        let client = Client::new(None);
        let literal = if own == "::1" { "[::1]" } else { own };
        let mut names = vec![literal];
        let known = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
        if known.into_iter().any(|address| address.ip().to_string() == own) {
            names.push("localhost");
        }
        for name in names {
            let answer = ask(&client, &format!("http://{name}:{port}/x"), "one").await;
            assert_eq!(answer, Ok((200, "one".to_owned())), "{name}");
        }
    }
}

/// Both forms of `Retry-After` are parsed (F26); other texts give `None`.
#[test]
fn retry_after_is_parsed_as_seconds_or_a_date() {
    let now: jiff::Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
    let hint = |value| retry_after(value, now).map(|hint| hint.as_secs());
    assert_eq!(hint("17"), Some(17));
    assert_eq!(hint(" 0 "), Some(0));
    assert_eq!(hint("Sat, 21 Nov 2026 12:00:30 GMT"), Some(30));
    assert_eq!(hint("Sat, 21 Nov 2026 11:59:30 GMT"), Some(0));
    assert_eq!(hint("99999999999999999999999"), Some(u64::MAX));
    for garbage in ["", "soon", "-5", "1.5", "5 s", "Sat, 99 Nov 2026 12:00:30 GMT"] {
        assert_eq!(hint(garbage), None, "{garbage}");
    }
}

#[actix_rt::test]
async fn read_body_enforces_its_limits_of_size_and_silence() {
    use futures_util::stream;

    let pieces = |count| stream::iter((0..count).map(|_| Ok::<_, ()>(Bytes::from_static(b"abcd"))));
    let second = Duration::from_secs(1);
    assert_eq!(read_body(pieces(3), 12, second).await.unwrap(), "abcdabcdabcd");
    assert_eq!(read_body(pieces(3), 11, second).await, Err(BodyError::TooLarge(11)));
    let silent = stream::pending::<Result<Bytes, ()>>();
    assert_eq!(read_body(silent, 1, Duration::from_millis(10)).await, Err(BodyError::Silent));
    let broken = stream::iter([Err::<Bytes, _>(())]);
    assert_eq!(read_body(broken, 1, second).await, Err(BodyError::Broken));
}

#[test]
fn a_ca_file_that_is_missing_or_empty_is_named_in_the_error() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("ca.pem");
    std::fs::write(&empty, "nothing").unwrap();
    for file in [empty, folder.path().join("absent.pem")] {
        let error = tls_config(Some(&file)).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}
