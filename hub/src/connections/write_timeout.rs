//! Connections whose other end takes nothing any more.

use std::time::Duration;

use actix_rt::net::TcpStream;

/// A reader who takes not a byte for so long is cut off, with what waits for him: as an upload gives its caller up.
const STALLED: Duration = Duration::from_mins(5);

/// For each new connection.
pub(super) fn cut_when_stalled(stream: &TcpStream) {
    cut_after(stream, STALLED);
}

/// Has the system cut the connection when what was written to it finds no taker for `limit`: be its other end gone
/// without a word, or there and not reading.
#[cfg(target_os = "linux")]
fn cut_after(stream: &TcpStream, limit: Duration) {
    use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};

    let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    // A socket that refuses the option works all the same, only longer.
    let _ = setsockopt(stream, TcpUserTimeout, &millis);
}

/// Only Linux has it for a reader that is there.
#[cfg(not(target_os = "linux"))]
fn cut_after(_: &TcpStream, _: Duration) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::connections::gate::Gate;
    use crate::connections::limits::ConnectionLimits;
    use crate::connections::table::Table;
    use crate::connections::wire::Wire;
    use crate::model::{Caller, Role};
    use crate::telemetry::Metrics;

    /// A25: one without a valid token who takes nothing of its answer is cut off long before one with a token.
    #[actix_rt::test]
    async fn a_stranger_who_takes_nothing_is_cut_off_sooner() {
        for is_known in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connecting = TcpStream::connect(listener.local_addr().unwrap());
            let (reader, accepted) = futures_util::join!(connecting, listener.accept());
            let (reader, stream) = (reader.unwrap(), accepted.unwrap().0);
            let limits =
                ConnectionLimits { all: 9, strangers: 9, members: 9, of_member: 9, of_address: None };
            let table = Table::new(limits, Metrics::new().unwrap().of_machine().unwrap());
            let place = table.admit([10, 0, 0, 1].into(), false);
            let caller = Caller { user: "alice".into(), role: Role::Member, token_id: "t".into() };
            place.flow.speaks(Some(&caller).filter(|_| is_known)).unwrap();
            let mut gate = Gate::new(Wire::Plain(stream), place);
            tokio::time::pause();
            let begin = Instant::now();
            let write = async { while gate.write_all(&[0; 16_384]).await.is_ok() {} };
            let is_cut = timeout(Duration::from_mins(1), write).await.is_ok();
            let took = begin.elapsed();
            tokio::time::resume();
            assert_eq!(is_cut, !is_known);
            assert!(is_known || (15..20).contains(&took.as_secs()), "{took:?}");
            drop(reader);
        }
    }

    /// A25: a caller who does not read has its connection cut, whatever waits to be written; one who reads slowly has
    /// not.
    #[actix_rt::test]
    async fn a_reader_who_takes_nothing_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (reader, accepted) = futures_util::join!(connecting, listener.accept());
        let (reader, mut stream) = (reader.unwrap(), accepted.unwrap().0);
        cut_after(&stream, Duration::from_millis(300));
        let write = async {
            while stream.write_all(&[0; 16_384]).await.is_ok() {
                sleep(Duration::ZERO).await;
            }
        };
        timeout(Duration::from_secs(20), write).await.expect("it is cut");
        drop(reader);
    }
}
