use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_tls::connect::{Resolve, Resolver};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::LocalBoxFuture;
use futures_util::stream;

use super::*;

/// F26: both forms are read, garbage is not.
#[test]
fn retry_after_is_seconds_or_a_date_and_garbage_is_no_hint() {
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

#[actix::test]
async fn a_body_is_read_to_its_end_within_size_and_silence() {
    let pieces = |count| stream::iter((0..count).map(|_| Ok::<_, ()>(Bytes::from_static(b"abcd"))));
    let second = Duration::from_secs(1);
    assert_eq!(read_body(pieces(3), 12, second).await.unwrap(), "abcdabcdabcd");
    assert_eq!(read_body(pieces(3), 11, second).await, Err(BodyError::TooLarge(11)));
    let silent = stream::pending::<Result<Bytes, ()>>();
    assert_eq!(read_body(silent, 1, Duration::from_millis(10)).await, Err(BodyError::Silent));
    let broken = stream::iter([Err::<Bytes, _>(())]);
    assert_eq!(read_body(broken, 1, second).await, Err(BodyError::Broken));
}

async fn moved() -> HttpResponse {
    HttpResponse::Found().insert_header(("location", "/ok")).finish()
}

async fn port(request: HttpRequest) -> String {
    request.app_config().local_addr().port().to_string()
}

/// A server on both loopback addresses that answers and redirects.
fn server(address: &str) -> std::io::Result<std::net::SocketAddr> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/ok", web::get().to(|| async { "ok" }))
            .route("/port", web::get().to(port))
            .route("/moved", web::get().to(moved))
    })
    .workers(1)
    .disable_signals()
    .bind((address, 0))?;
    let address = server.addrs()[0];
    actix_rt::spawn(server.run());
    Ok(address)
}

/// A18: no redirect is followed.
#[actix::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let address = server("127.0.0.1").unwrap();
    let response = client(None).get(format!("http://{address}/moved")).send().await.unwrap();
    assert_eq!(response.status(), 302);
}

/// F81: a name is looked up for each connection: an address that has changed is found without a restart, and a look-up
/// that fails is one failed try.
#[actix::test]
async fn a_name_that_leads_elsewhere_now_is_followed_there() {
    struct Names(Rc<RefCell<Vec<Option<SocketAddr>>>>);
    impl Resolve for Names {
        fn lookup<'a>(
            &'a self,
            host: &'a str,
            _: u16,
        ) -> LocalBoxFuture<'a, Result<Vec<SocketAddr>, Box<dyn std::error::Error>>> {
            assert_eq!(host, "hub.example");
            let answer = self.0.borrow_mut().remove(0);
            Box::pin(async move { answer.map(|address| vec![address]).ok_or_else(|| "no such name".into()) })
        }
    }
    let (first, second) = (server("127.0.0.1").unwrap(), server("127.0.0.1").unwrap());
    let answers = Rc::new(RefCell::new(vec![Some(first), None, Some(second)]));
    let names = Resolver::custom(Names(Rc::clone(&answers)));
    let client = client_by(&TcpConnector::new(names), None);
    let ask = || client.get("http://hub.example/port").force_close().send();
    let port = async || ask().await.unwrap().body().await.unwrap();
    assert_eq!(port().await, first.port().to_string());
    assert!(ask().await.is_err(), "the name is gone for a while");
    assert_eq!(port().await, second.port().to_string());
    assert!(answers.borrow().is_empty());
}

/// F81: a name of which one address is dead and the other lives is reached by either family.
#[actix::test]
async fn each_address_of_a_name_is_tried() {
    let names = |port| std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
    for own in ["127.0.0.1", "::1"] {
        // A machine without this family has nothing to try.
        let Ok(address) = server(own) else { continue };
        if names(address.port()).all(|name| name != address) {
            continue;
        }
        let url = format!("http://localhost:{}/ok", address.port());
        assert_eq!(client(None).get(url).send().await.unwrap().status(), 200, "{own}");
    }
}

#[actix::test]
async fn an_ipv6_address_in_brackets_is_reached() {
    // A machine without IPv6 has nothing to reach.
    let Ok(address) = server("::1") else { return };
    let response = client(None).get(format!("http://{address}/ok")).send().await.unwrap();
    assert_eq!(response.status(), 200);
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
