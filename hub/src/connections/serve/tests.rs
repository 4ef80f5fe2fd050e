//! What becomes of a connection before its first request.

use std::cell::RefCell;
use std::sync::Arc;

use actix_service::fn_service;
use futures_util::FutureExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::{Instant, pause};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls;

use super::*;
use crate::telemetry::Metrics;

/// Connections that were let through.
type Through = Rc<RefCell<Vec<Gate>>>;
type Call = LocalBoxFuture<'static, Result<(), DispatchError>>;

/// A door, what it lets through, and what its callers trust.
struct Rig {
    call: Box<dyn Fn(TcpStream) -> Call>,
    table: Rc<Table>,
    through: Through,
    connector: TlsConnector,
}

fn rig(of_address: Option<usize>, is_tls: bool) -> Rig {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone());
    let server = server.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let limits = ConnectionLimits { all: 9, strangers: 9, members: 9, of_member: 9, of_address };
    let machine = Metrics::new().unwrap().of_machine().unwrap();
    let (table, through) = (Table::new(limits, machine.clone()), Through::default());
    let tls = is_tls.then(|| TlsAcceptor::from(Arc::new(server)));
    let doors = Doors { tls, limits, proxies: Proxies::default(), machine };
    let passed = through.clone();
    let http = fn_service(move |(gate, _): (Gate, Option<SocketAddr>)| {
        passed.borrow_mut().push(gate);
        async { Ok::<_, DispatchError>(()) }
    });
    let door = Door { http: Rc::new(http), doors, table: table.clone() };
    let connector = TlsConnector::from(Arc::new(client));
    Rig { call: Box::new(move |stream| door.call(stream)), table, through, connector }
}

/// Both ends of a connection, the caller's first.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (caller, accepted) = futures_util::join!(connecting, listener.accept());
    (caller.unwrap(), accepted.unwrap().0)
}

/// A handshake that does not come is given up.
#[actix_rt::test]
async fn a_handshake_has_so_long() {
    let rig = rig(None, true);
    let (mut caller, stream) = pair().await;
    pause();
    let begin = Instant::now();
    timeout(Duration::from_mins(1), (rig.call)(stream)).await.expect("it is waited for").unwrap();
    assert_eq!(begin.elapsed().as_secs(), HANDSHAKE.as_secs());
    assert!(rig.through.borrow().is_empty());
    assert_eq!(caller.read(&mut [0]).await.unwrap(), 0, "it is closed");
    assert_eq!(rig.table.sizes(), [0; 4], "and forgotten");
}

/// An address that has had all of its handshakes for nothing gets no other.
#[actix_rt::test]
async fn an_address_without_handshakes_left_gets_none() {
    let rig = rig(None, true);
    for (is_left, count) in [(true, 1), (false, 1)] {
        if !is_left {
            let had = (0..9999).take_while(|_| {
                let place = rig.table.admit([127, 0, 0, 1].into(), false);
                place.may_shake_hands()
            });
            assert!(had.count() < 9999);
        }
        let (caller, stream) = pair().await;
        let connecting = rig.connector.connect("localhost".try_into().unwrap(), caller);
        let (shaken, served) = futures_util::join!(connecting, (rig.call)(stream));
        served.unwrap();
        assert_eq!(shaken.is_ok(), is_left);
        assert_eq!(rig.through.borrow().len(), count);
    }
}

/// One that shakes no hands makes room, too: of an address with too many after a moment in which its word may come.
#[actix_rt::test]
async fn a_connection_in_its_handshake_makes_room_after_a_moment() {
    let rig = rig(Some(1), true);
    let (_caller, stream) = pair().await;
    let (_other, another) = pair().await;
    pause();
    let begin = Instant::now();
    let mut first = (rig.call)(stream);
    assert!((&mut first).now_or_never().is_none());
    let mut second = (rig.call)(another);
    timeout(Duration::from_mins(1), first).await.expect("it stays").unwrap();
    assert!((900..1500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert!((&mut second).now_or_never().is_none(), "the newcomer stays");
    assert!(rig.through.borrow().is_empty());
}

/// Each connection is cut when its other end takes nothing for minutes, whoever it is.
#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn each_connection_is_cut_when_it_is_stalled() {
    use nix::sys::socket::{getsockopt, sockopt::TcpUserTimeout};

    let rig = rig(None, false);
    let (_caller, stream) = pair().await;
    (rig.call)(stream).await.unwrap();
    let through = rig.through.borrow();
    let Wire::Plain(stream) = through[0].wire() else { panic!("no TLS was asked for") };
    assert_eq!(getsockopt(stream, TcpUserTimeout).unwrap(), 300_000);
}
