//! Closes connections whose peer reads nothing (`TCP_USER_TIMEOUT`).

use std::time::Duration;

use actix_rt::net::TcpStream;

/// Time without an acknowledged byte after which the system closes a connection: as long as a stream waits for its caller.
const USER_TIMEOUT: Duration = Duration::from_mins(5);

/// Sets the time-out of a new connection.
pub(super) fn set_user_timeout(stream: &TcpStream) {
    set(stream, USER_TIMEOUT);
}

/// Has the system close the connection when sent data is not acknowledged, or not read, for `limit`.
#[cfg(target_os = "linux")]
fn set(stream: &TcpStream, limit: Duration) {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};

    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    // Best effort: without the option a stalled connection stays longer.
    let _ = setsockopt(stream, TcpUserTimeout, &millis);
}

/// Only Linux applies it to a peer that acknowledges and does not read.
#[cfg(not(target_os = "linux"))]
fn set(_: &TcpStream, _: Duration) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::connections::gate::Gate;
    use crate::connections::limits::ConnectionLimits;
    use crate::connections::maybe_tls::MaybeTlsStream;
    use crate::connections::table::ConnectionTable;
    use crate::model::{Caller, Role};
    use crate::telemetry::Metrics;

    /// A25: a connection that reads nothing is closed after 15 s without a valid token, and not yet with a token.
    #[actix_rt::test]
    async fn an_anonymous_connection_that_reads_nothing_is_closed_sooner() {
        for has_token in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let (reader, accepted) = futures_util::join!(connecting, listener.accept());
            let (reader, stream) = (reader.unwrap(), accepted.unwrap().0);
            let table = ConnectionTable::new(
                ConnectionLimits::of_test(9),
                Metrics::new().unwrap().of_machine().unwrap(),
            );
            let permit = table.admit([10, 0, 0, 1].into(), false);
            let caller = Caller {
                user: "alice".into(),
                role: Role::Member,
                token_id: "t".into(),
                models: crate::model::AllowedModels::default(),
                secret: None,
            };
            permit.connection.set_caller(Some(&caller).filter(|_| has_token)).unwrap();
            let mut gate = Gate::new(MaybeTlsStream::Plain(stream), permit);
            tokio::time::pause();
            let begin = Instant::now();
            let write = async { while gate.write_all(&[0; 16_384]).await.is_ok() {} };
            let is_closed = timeout(Duration::from_mins(1), write).await.is_ok();
            let took = begin.elapsed();
            tokio::time::resume();
            assert_eq!(is_closed, !has_token);
            assert!(has_token || (15..20).contains(&took.as_secs()), "{took:?}");
            drop(reader);
        }
    }

    /// A25: a connection whose peer reads nothing is closed after the user time-out.
    #[actix_rt::test]
    async fn a_connection_whose_peer_reads_nothing_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (reader, accepted) = futures_util::join!(connecting, listener.accept());
        let (reader, mut stream) = (reader.unwrap(), accepted.unwrap().0);
        set(&stream, Duration::from_millis(300));
        let write = async {
            while stream.write_all(&[0; 16_384]).await.is_ok() {
                sleep(Duration::ZERO).await;
            }
        };
        timeout(Duration::from_secs(20), write).await.expect("the connection is closed");
        drop(reader);
    }
}
