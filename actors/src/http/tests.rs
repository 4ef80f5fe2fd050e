use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_tls::connect::{Resolve, Resolver};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::future::LocalBoxFuture;

use super::*;

async fn moved() -> HttpResponse {
    HttpResponse::Found().insert_header(("location", "/ok")).finish()
}

async fn port(request: HttpRequest) -> String {
    request.app_config().local_addr().port().to_string()
}

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
async fn a_redirect_is_not_followed() {
    let address = server("127.0.0.1").unwrap();
    let response = client(None).get(format!("http://{address}/moved")).send().await.unwrap();
    assert_eq!(response.status(), 302);
}

/// F81: a changed address is found without a restart, and a failed look-up is one failed try.
#[actix::test]
async fn a_name_is_looked_up_for_each_connection() {
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
    assert!(ask().await.is_err(), "the look-up fails");
    assert_eq!(port().await, second.port().to_string());
    assert!(answers.borrow().is_empty());
}

/// F81: a name with one dead address is reached by the other.
#[actix::test]
async fn each_address_of_a_name_is_tried() {
    let names = |port| std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
    for own in ["127.0.0.1", "::1"] {
        // A machine without this address family is skipped.
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
    // A machine without IPv6 is skipped.
    let Ok(address) = server("::1") else { return };
    let response = client(None).get(format!("http://{address}/ok")).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
