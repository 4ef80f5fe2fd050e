//! `ConnectionService`: connections before their first request.

use std::cell::RefCell;
use std::sync::Arc;

use actix_service::fn_service;
use futures_util::FutureExt;
use testkit::certificate::Certificate;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, pause};
use tokio_rustls::TlsConnector;

use super::*;
use crate::telemetry::Metrics;

/// Connections that were passed to the HTTP service.
type Passed = Rc<RefCell<Vec<Gate>>>;
type Call = LocalBoxFuture<'static, Result<(), DispatchError>>;

/// A connection service and a TLS client that trusts its certificate.
struct Fixture {
    metrics: Metrics,
    call: Box<dyn Fn(TcpStream) -> Call>,
    table: Rc<ConnectionTable>,
    passed: Passed,
    connector: TlsConnector,
}

fn fixture(per_address: Option<usize>, is_tls: bool) -> Fixture {
    let certificate = Certificate::of_localhost();
    let limits = ConnectionLimits { per_address, ..ConnectionLimits::of_test(9) };
    let metrics = Metrics::new().unwrap();
    let machine = metrics.of_machine().unwrap();
    let (table, passed) = (ConnectionTable::new(limits, machine.clone()), Passed::default());
    let tls = is_tls.then(|| TlsAcceptor::from(Arc::new(certificate.server())));
    let config = ListenerConfig { tls, limits, proxies: Proxies::default(), machine };
    let gates = passed.clone();
    let http = fn_service(move |(gate, _): (Gate, Option<SocketAddr>)| {
        gates.borrow_mut().push(gate);
        async { Ok::<_, DispatchError>(()) }
    });
    let service = ConnectionService { http: Rc::new(http), config, table: table.clone() };
    let connector = TlsConnector::from(Arc::new(certificate.client()));
    Fixture { metrics, call: Box::new(move |stream| service.call(stream)), table, passed, connector }
}

/// Opens a TCP connection. Returns the caller's end and the server's end.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (caller, accepted) = futures_util::join!(connecting, listener.accept());
    (caller.unwrap(), accepted.unwrap().0)
}

#[actix_rt::test]
async fn a_handshake_times_out() {
    let fixture = fixture(None, true);
    let (mut caller, stream) = pair().await;
    pause();
    let begin = Instant::now();
    timeout(Duration::from_mins(1), (fixture.call)(stream)).await.expect("the handshake times out").unwrap();
    assert_eq!(begin.elapsed().as_secs(), HANDSHAKE_TIMEOUT.as_secs());
    assert!(fixture.passed.borrow().is_empty());
    assert_eq!(caller.read(&mut [0]).await.unwrap(), 0, "the connection is open");
    assert_eq!(fixture.table.sizes(), [0; 4]);
    let metrics = fixture.metrics.text().unwrap();
    assert!(metrics.contains("limit_refusals_total{limit=\"tls_handshake\"} 1\n"), "{metrics}");
}

#[actix_rt::test]
async fn an_address_without_handshakes_left_gets_no_handshake() {
    let fixture = fixture(None, true);
    for (is_left, count) in [(true, 1), (false, 1)] {
        if !is_left {
            let take = |_: &i32| fixture.table.admit([127, 0, 0, 1].into(), false).take_handshake();
            assert!((0..9999).take_while(take).count() < 9999);
        }
        let (caller, stream) = pair().await;
        let connecting = fixture.connector.connect("localhost".try_into().unwrap(), caller);
        let (shaken, served) = futures_util::join!(connecting, (fixture.call)(stream));
        served.unwrap();
        assert_eq!(shaken.is_ok(), is_left);
        assert_eq!(fixture.passed.borrow().len(), count);
    }
}

/// A connection in its handshake is closed after its grace period if a newer connection of its address arrives.
#[actix_rt::test]
async fn a_connection_in_its_handshake_is_closed_for_a_newer_one() {
    let fixture = fixture(Some(1), true);
    let (_caller, stream) = pair().await;
    let (_other, another) = pair().await;
    pause();
    let begin = Instant::now();
    let mut first = (fixture.call)(stream);
    assert!((&mut first).now_or_never().is_none());
    let mut second = (fixture.call)(another);
    timeout(Duration::from_mins(1), first).await.expect("the older connection is closed").unwrap();
    assert!((900..1500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert!((&mut second).now_or_never().is_none(), "the newer connection is closed");
    assert!(fixture.passed.borrow().is_empty());
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn each_connection_has_a_user_timeout() {
    use nix::sys::socket::{getsockopt, sockopt::TcpUserTimeout};

    let fixture = fixture(None, false);
    let (_caller, stream) = pair().await;
    (fixture.call)(stream).await.unwrap();
    let passed = fixture.passed.borrow();
    let MaybeTlsStream::Plain(stream) = &passed[0].stream else { panic!("TLS") };
    assert_eq!(getsockopt(stream, TcpUserTimeout).unwrap(), 300_000);
    assert_eq!(socket2::SockRef::from(stream).tcp_notsent_lowat().unwrap(), 128 << 10);
}
