use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_tls::connect::{Resolve, Resolver};
use futures_util::future::LocalBoxFuture;
use testkit::connection::answer;
use testkit::peer::Peer;

use super::*;

/// A server that answers with its port, and redirects from `/moved`.
fn server(address: &str) -> std::io::Result<Peer> {
    Peer::on((address, 0), async |mut connection| {
        loop {
            let (request, port) = (connection.request().await?, connection.port()?);
            let answer = match request.path() {
                "/moved" => answer(302, "location: /ok\r\n", ""),
                _ => answer(200, "", &port.to_string()),
            };
            connection.write(answer).await?;
        }
    })
}

/// A18: no redirect is followed.
#[actix::test]
async fn a_redirect_is_not_followed() {
    let server = server("127.0.0.1").unwrap();
    let response = client(None, None).get(format!("{}/moved", server.url())).send().await.unwrap();
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
    let answers = Rc::new(RefCell::new(vec![Some(first.address()), None, Some(second.address())]));
    let names = Resolver::custom(Names(Rc::clone(&answers)));
    let client = client_by(&TcpConnector::new(names), None, None);
    let ask = || client.get("http://hub.example/port").force_close().send();
    let port = async || ask().await.unwrap().body().await.unwrap();
    assert_eq!(port().await, first.port().to_string());
    assert!(ask().await.is_err(), "the look-up fails");
    assert_eq!(port().await, second.port().to_string());
    assert!(answers.borrow().is_empty());
}

/// F81: a name with a dead address is reached at its other address.
#[actix::test]
async fn each_address_of_a_name_is_tried() {
    let names = |port| std::net::ToSocketAddrs::to_socket_addrs(&("localhost", port)).unwrap();
    for own in ["127.0.0.1", "::1"] {
        // The machine may lack this address family.
        let Ok(server) = server(own) else { continue };
        let address = server.address();
        if names(address.port()).all(|name| name != address) {
            continue;
        }
        let url = format!("http://localhost:{}/ok", address.port());
        assert_eq!(client(None, None).get(url).send().await.unwrap().status(), 200, "{own}");
    }
}

#[actix::test]
async fn an_ipv6_address_in_brackets_is_reached() {
    // The machine may lack IPv6.
    let Ok(server) = server("::1") else { return };
    let response = client(None, None).get(format!("{}/ok", server.url())).send().await.unwrap();
    assert_eq!(response.status(), 200);
}
