//! The steps of a WebSocket: the upgrade, the hub's first frame, and 1 MiB each way.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use wire::echo::{HELLO, MAX_MESSAGE};

use super::{Finding, advice};
use crate::Credentials;
use crate::hub_client::{Echo, EchoChannel, HubClient};
use crate::tls_reason::connect_reason;

/// Messages that make 1 MiB.
const MESSAGES: usize = (1 << 20) / MAX_MESSAGE;
/// Length of a small message in bytes: about that of a token.
const SMALL: usize = 64;
/// Small messages whose median round trip is reported.
const ROUNDS: usize = 5;
/// Time in which the first frame has to come: that in which a registrar waits for a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time of all steps of an open echo: the hub ends it after 60 s.
const WHOLE: Duration = Duration::from_secs(70);
/// Longest round trip without a warning. A longer one means that something holds frames back until more come.
const SLOW: Duration = Duration::from_secs(1);

const CLASSIC: &str = "A registrar uses SSE and POSTs: it works, and each answer costs more.";

/// Opens an echo at the hub of `credentials`, and says what each step found. Without a link a registrar works too, so that no
/// finding is an error but one about the credentials.
pub async fn web_socket(credentials: &Credentials) -> Vec<Finding> {
    let client = match HubClient::new(credentials) {
        Ok(client) => client,
        Err(error) => return vec![Finding::error(error.to_string())],
    };
    let mut channel = match client.open_echo().await {
        Ok(Echo::Open(channel)) => channel,
        Ok(Echo::NotOffered) => {
            return vec![Finding::ok("WebSocket: a test of it is not offered by this hub")];
        }
        Ok(Echo::Blocked { reason, server }) => {
            let mut lines = vec![CLASSIC.to_owned()];
            lines.extend(advice::pass_upgrade(server.as_deref()));
            let server = server.map(|server| format!(" ('{server}' answers)")).unwrap_or_default();
            return vec![Finding::warning(format!("WebSocket: {reason}{server}")).advised(lines)];
        }
        Err(error) => return vec![Finding::warning(format!("WebSocket: not tested: {error}"))],
    };
    let mut findings = vec![Finding::ok("WebSocket: opens (101): a registrar uses the link")];
    if timeout(WHOLE, measure(&mut channel, &mut findings)).await.is_err() {
        let text = format!("WebSocket: 1 MB each way is not through after {} s", WHOLE.as_secs());
        findings.push(Finding::warning(text));
    }
    findings
}

/// Measures an open echo.
async fn measure(channel: &mut EchoChannel, findings: &mut Vec<Finding>) {
    let opened = Instant::now();
    let first = timeout(HELLO_TIMEOUT, channel.next()).await;
    let waited = opened.elapsed();
    let error = match first {
        Ok(Ok(bytes)) if bytes == HELLO => None,
        Ok(Ok(_)) => Some("is not the hub's".to_owned()),
        Ok(Err(error)) => Some(format!("did not come: {}", connect_reason(&error))),
        Err(_) => Some(format!("did not come within {} s", HELLO_TIMEOUT.as_secs())),
    };
    if let Some(error) = error {
        let lines =
            ["A proxy on the way passes the upgrade on, and no frames.".to_owned(), CLASSIC.to_owned()];
        let text = format!("WebSocket: the first frame {error}");
        return findings.push(Finding::warning(text).advised(lines.to_vec()));
    }
    let round_trip = match round_trip(channel).await {
        Ok(time) => time,
        Err(error) => return findings.push(cut(&error, "a small frame")),
    };
    let text = format!(
        "WebSocket: first frame after {}, a small frame there and back {}",
        shown(waited),
        shown(round_trip)
    );
    findings.push(if round_trip > SLOW {
        let lines = ["Something on the way holds small frames back: a proxy that buffers?".to_owned()];
        Finding::warning(text).advised(lines.to_vec())
    } else {
        Finding::ok(text)
    });
    let up = match transfer(channel, MAX_MESSAGE, SMALL).await {
        Ok(time) => time.saturating_sub(round_trip),
        Err(error) => return findings.push(cut(&error, "1 MB to the hub")),
    };
    let down = match transfer(channel, SMALL, MAX_MESSAGE).await {
        Ok(time) => time.saturating_sub(round_trip),
        Err(error) => return findings.push(cut(&error, "1 MB from the hub")),
    };
    findings.push(Finding::ok(format!("WebSocket: 1 MB up in {}, down in {}", speed(up), speed(down))));
}

/// The median time of a small message there and back.
async fn round_trip(channel: &mut EchoChannel) -> io::Result<Duration> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        times.push(exchange(channel, 1, SMALL, SMALL).await?);
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

/// The time of 1 MiB in messages of `length` bytes, or in answers of `answer` bytes.
async fn transfer(channel: &mut EchoChannel, length: usize, answer: usize) -> io::Result<Duration> {
    exchange(channel, MESSAGES, length, answer).await
}

async fn exchange(
    channel: &mut EchoChannel,
    count: usize,
    length: usize,
    answer: usize,
) -> io::Result<Duration> {
    let begin = Instant::now();
    channel.send(count, length, answer).await?;
    for _ in 0..count {
        if channel.next().await?.len() != answer {
            return Err(io::Error::other("an answer has another length"));
        }
    }
    Ok(begin.elapsed())
}

fn cut(error: &io::Error, what: &str) -> Finding {
    let lines = [
        "A proxy or a firewall on the way cuts it. After two links that broke".to_owned(),
        "within 30 s a registrar uses SSE and POSTs for an hour.".to_owned(),
    ];
    let text = format!("WebSocket: {what} did not pass: {}", connect_reason(error));
    Finding::warning(text).advised(lines.to_vec())
}

fn shown(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// A time, and the speed of 1 MiB in it.
fn speed(time: Duration) -> String {
    let seconds = time.as_secs_f64().max(0.0001);
    format!("{seconds:.2} s ({:.1} MB/s)", 1.048_576 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_shown_with_the_speed_of_a_mebibyte() {
        assert_eq!(shown(Duration::from_micros(340)), "0.3 ms");
        assert_eq!(shown(Duration::from_millis(1234)), "1234 ms");
        assert_eq!(speed(Duration::from_millis(500)), "0.50 s (2.1 MB/s)");
    }
}
