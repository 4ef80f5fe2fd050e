//! Tests of the fault proxy.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::{Network, Proxy};
use crate::wait::{PATIENCE, wait_until};

/// A client and a server that are connected through the proxy.
struct Pair {
    proxy: Proxy,
    client: TcpStream,
    server: TcpStream,
}

/// How long a test waits to see that no byte comes.
const NOTHING: Duration = Duration::from_millis(50);

impl Pair {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(listener.local_addr().unwrap().port()).await;
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let _ = client.set_nodelay(true);
        Self { proxy, client, server }
    }

    async fn send_to_server(&mut self, text: &[u8]) {
        self.client.write_all(text).await.unwrap();
        let mut got = vec![0; text.len()];
        timeout(PATIENCE, self.server.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(got, text);
    }
}

async fn rest_of(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("the connection did not end").map(|_| rest)
}

#[actix_rt::test]
async fn bytes_and_ends_pass_both_ways() {
    let mut pair = Pair::new().await;
    pair.send_to_server(b"question").await;
    pair.server.write_all(b"answer").await.unwrap();
    pair.server.shutdown().await.unwrap();
    assert_eq!(rest_of(&mut pair.client).await.unwrap(), b"answer");
    pair.send_to_server(b"after the server's end").await;
    drop(pair.client);
    assert_eq!(rest_of(&mut pair.server).await.unwrap(), b"");
    wait_until("the connection has ended", || pair.proxy.open() == 0).await;
    assert_eq!(pair.proxy.accepted(), 1);
}

#[actix_rt::test]
async fn a_black_hole_delays_bytes_until_it_ends() {
    let mut pair = Pair::new().await;
    pair.proxy.set(Network::BlackHole);
    pair.client.write_all(b"kept").await.unwrap();
    let mut got = [0; 4];
    assert!(timeout(NOTHING, pair.server.read_exact(&mut got)).await.is_err(), "a byte came through");
    pair.proxy.set(Network::Passes);
    timeout(PATIENCE, pair.server.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"kept");
}

#[actix_rt::test]
async fn a_cut_comes_after_its_number_of_bytes() {
    let mut pair = Pair::new().await;
    pair.send_to_server(b"these do not count").await;
    pair.proxy.set(Network::CutsAfter(5));
    pair.server.write_all(b"0123456789").await.unwrap();
    assert_eq!(rest_of(&mut pair.client).await.unwrap(), b"01234");
}

#[actix_rt::test]
async fn a_reset_is_an_error_at_both_ends() {
    let mut pair = Pair::new().await;
    pair.proxy.set(Network::Resets);
    assert_eq!(rest_of(&mut pair.client).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(rest_of(&mut pair.server).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[actix_rt::test]
async fn a_half_closed_client_reads_the_end_and_can_still_write() {
    let mut pair = Pair::new().await;
    pair.proxy.set(Network::HalfCloses);
    assert_eq!(rest_of(&mut pair.client).await.unwrap(), b"");
    pair.send_to_server(b"hello?").await;
}

#[actix_rt::test]
async fn slices_come_one_byte_at_a_time() {
    let mut pair = Pair::new().await;
    pair.proxy.set(Network::Slices);
    pair.client.write_all(&[7; 300]).await.unwrap();
    let (mut reads, mut total, mut buffer) = (0, 0, [0; 300]);
    while total < 300 {
        total += timeout(PATIENCE, pair.server.read(&mut buffer)).await.unwrap().unwrap();
        reads += 1;
    }
    // On a busy machine one read may return several bytes.
    assert!(reads > 10, "{reads} reads");
}

#[actix_rt::test]
async fn a_lag_and_a_trickle_delay_bytes_and_lose_none() {
    let mut pair = Pair::new().await;
    let start = Instant::now();
    pair.proxy.set(Network::Lags(Duration::from_millis(60)));
    pair.send_to_server(b"late").await;
    assert!(start.elapsed() >= Duration::from_millis(60));
    let start = Instant::now();
    pair.proxy.set(Network::Trickles(1000));
    pair.send_to_server(&[1; 150]).await;
    assert!(start.elapsed() >= Duration::from_millis(100), "a trickle sends 50 bytes every 50 ms");
}

#[actix_rt::test]
async fn a_proxy_without_a_server_resets_connections() {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    drop(target);
    let proxy = Proxy::to(port).await;
    let mut client = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert!(rest_of(&mut client).await.is_err());
}
