//! Many registrars lose their hub at once, and reconnect without a burst of connections.
//!
//! The test runs 200 real registrars in this process, half of them classic, and one hub process. To run 1,000 registrars,
//! to print the cost of an idle publisher, and to restart the hub in half a second after all links were open for 60 s:
//!
//! ```sh
//! HERD_REGISTRARS=1000 HERD_AWAY=20 HERD_IDLE=30 cargo test --test herd -- --nocapture
//! HERD_REGISTRARS=1000 HERD_AWAY=0.5 HERD_IDLE=60 cargo test --test herd -- --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test fails by panic, and this one has something to tell"
)]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]

mod front;
mod hub;

use std::rc::Rc;
use std::time::Duration;

use actors::options::{BackendConfig, MockConfig, Transport};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret};
use tokio::time::{Instant, sleep};

use front::Seen;
use hub::Hub;

fn number<N: std::str::FromStr>(variable: &str) -> Option<N> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Limit for connections in one second. A thousand registrars, each with a register call and a channel, spread over the 10 s
/// of the first delay, make 200 on average.
const PEAK: usize = 250;
/// Limit for the median time until links are open again after a restart of the hub in half a second.
const SOON: Duration = Duration::from_secs(2);
/// Pause between the starts of two registrars.
const BETWEEN: Duration = Duration::from_millis(10);
/// Time for which a restarted hub is away.
const DOWN: Duration = Duration::from_millis(500);
/// Deadline for all registrars to be back: the longest reconnect delay, and the time for one connect.
const BACK: Duration = Duration::from_secs(65);

/// P4, F84: registrars whose hub was killed reconnect spread over their delays, and none of their register calls fails.
#[actix_rt::test]
async fn registrars_whose_hub_was_killed_reconnect_without_a_burst() {
    let count = number("HERD_REGISTRARS").unwrap_or(200);
    let away = Duration::from_secs_f64(number("HERD_AWAY").unwrap_or(1.0));
    let idle = Duration::from_secs(number("HERD_IDLE").unwrap_or(0));
    println!("HERD_REGISTRARS={count} HERD_AWAY={} HERD_IDLE={}", away.as_secs_f64(), idle.as_secs());

    let mut hub = Hub::start().await;
    let seen = Rc::new(Seen::default());
    let port = front::open(hub.port(), Rc::clone(&seen)).await;
    let empty = hub.resident();
    let start = Instant::now();
    let mut registrars = Vec::with_capacity(count);
    for index in 0..count {
        // Half of them have no link.
        let transport = if index.is_multiple_of(2) { Transport::Auto } else { Transport::Classic };
        registrars.push(registrar(index, port, transport));
        // Registrars that all start in one second would send their heartbeats in one second from then on.
        sleep(BETWEEN).await;
    }
    hub.wait_for_publishers(count, Duration::from_mins(2)).await;
    println!("{count} registrars connected in {:.1?}", start.elapsed());
    // The first heartbeats and health checks must not count as reconnects.
    seen.wait_until_quiet().await;
    if !idle.is_zero() {
        let (cpu, start) = (hub.cpu(), Instant::now());
        sleep(idle).await;
        let share = hub.cpu().saturating_sub(cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        let each = (hub.resident() - empty) as f64 / count as f64 / 1e3;
        println!(
            "hub with {count} idle publishers: {:.1} MB resident ({:.1} MB without), {each:.1} KB each, {:.2} % of a core",
            hub.resident() as f64 / 1e6,
            empty as f64 / 1e6,
            share * 100.0
        );
    }

    hub.kill().await;
    let killed = Instant::now();
    sleep(away).await;
    hub.start_again().await;
    let returned = Instant::now();
    hub.wait_for_publishers(count, BACK).await;
    let back = returned.elapsed();
    let rows = hub.active_rows().await;

    let registers = seen.registers.take();
    let after: Vec<_> = registers.iter().filter(|(at, _)| *at >= returned).collect();
    let failed = after.iter().filter(|(_, taken)| taken.is_none()).count();
    let mut times: Vec<_> = after.iter().filter_map(|(_, taken)| *taken).collect();
    times.sort_unstable();
    let slowest = times.last().copied().unwrap_or_default();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let (peak, peak_after) = (seen.peak(killed), seen.peak(returned));
    println!(
        "all back {back:.1?} after the hub's return ({:.1?} away); {} registered, {failed} failed, p99 {p99:.1?}, slowest {slowest:.1?}",
        returned - killed,
        after.len()
    );
    let [link, classic] = [true, false].map(|links| seen.median(returned, links));
    println!("control channels open after the hub's return, median: links {link:.1?}, classic {classic:.1?}");
    println!("peak connections in a second: {peak_after} after the return, {peak} since the kill");
    assert_eq!(failed, 0, "register calls failed");
    assert_eq!(rows, count, "rows are active");
    assert!(peak <= PEAK, "{peak} connections in a second");
    assert!(p99 < Duration::from_secs(1), "register calls take {p99:?}");
    assert!(!link.is_zero() && !classic.is_zero(), "both transports are used");
    // The first reconnect after a link that was open for 60 s is soon.
    if idle >= Duration::from_mins(1) && away < Duration::from_secs(1) {
        assert!(link <= SOON, "links are open again after {link:?}");
    }

    for registrar in &registrars {
        registrar.stop_now();
    }
    for registrar in &registrars {
        registrar.wait().await;
    }
}

/// F72, F84: registrars whose hub is restarted are back at once, one after another, and each with one connection.
#[actix_rt::test]
async fn registrars_whose_hub_is_restarted_are_back_within_seconds() {
    let count = usize::try_from(number("HERD_REGISTRARS").unwrap_or(200)).unwrap();
    let mut hub = Hub::start().await;
    let seen = Rc::new(Seen::default());
    let port = front::open(hub.port(), Rc::clone(&seen)).await;
    let mut registrars = Vec::with_capacity(count);
    for index in 0..count {
        registrars.push(registrar(index, port, Transport::Auto));
        sleep(BETWEEN).await;
    }
    hub.wait_for_publishers(count, Duration::from_mins(2)).await;
    seen.wait_until_quiet().await;

    let begin = Instant::now();
    hub.stop().await;
    let stopped = Instant::now();
    sleep(DOWN.saturating_sub(stopped - begin)).await;
    hub.start_again().await;
    let returned = Instant::now();
    hub.wait_for_publishers(count / 2, BACK).await;
    let median = begin.elapsed();
    hub.wait_for_publishers(count, BACK).await;
    let all = begin.elapsed();
    let (peak, rows, registers) = (seen.peak(begin), hub.active_rows().await, seen.registers.borrow().len());
    println!(
        "{count} registrars, hub away for {:.1?}: half of them back after {median:.1?}, all after {all:.1?}; peak {peak} connections in a second",
        returned - begin
    );
    assert_eq!(rows, count, "rows are active");
    assert_eq!(registers, count, "no register call but the first ones");
    assert!(peak <= PEAK, "{peak} connections in a second");
    // With the usual delays, none would be back within 5 s.
    assert!(all < Duration::from_secs(5) + Duration::from_micros(10_000 * count as u64), "{all:?}");
    registrars.iter().for_each(Registrar::stop_now);
}

fn registrar(index: usize, port: u16, transport: Transport) -> Registrar {
    let credentials =
        Credentials::new(format!("http://127.0.0.1:{port}"), Secret::new(hub::ADMIN.to_owned()));
    let name = format!("row-{index}").parse().unwrap();
    let provider = ProviderConfig::new(name, "mock", BackendConfig::Mock(MockConfig::default()));
    let mut options = Options::new(credentials, vec![provider]);
    options.transport = transport;
    Registrar::start(options).unwrap()
}
