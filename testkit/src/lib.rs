//! Helpers for the tests and benchmarks of all crates.
//!
//! The crate uses bytes, HTTP and [`serde_json::Value`], and depends on no other crate of this workspace: otherwise the types of
//! a crate under test would exist twice in its unit tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::new_without_default,
    clippy::missing_panics_doc,
    reason = "a test fails by panic"
)]
#![allow(missing_docs, reason = "many names need no further explanation")]

pub mod backend;
pub mod browser;
pub mod captured_log;
pub mod certificate;
pub mod classic_hub;
pub mod client;
pub mod connect_proxy;
pub mod connection;
pub mod golden;
pub mod http;
pub mod nats;
pub mod peer;
pub mod postgres;
pub mod prefix;
pub mod process;
pub mod procfs;
pub mod proxy;
pub mod random;
pub mod team;
pub mod terminal;
pub mod wait;

use std::io::Write;

/// A free port of 127.0.0.1. Another program may take it before the test does.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Reports a skipped test on standard error, past the harness's capture of output, so that a skip is noticed. With
/// `REQUIRE_TOOLS=1` it panics instead.
pub fn skipped(what: &str) {
    let _ = std::io::stderr().write_all(format!("skipped: {what}\n").as_bytes());
    let required = std::env::var_os("REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(!required, "REQUIRE_TOOLS=1, and this was skipped: {what}");
}

/// Number of cases for a property test: `GARBLE_CASES`, or a number that takes about a second.
pub fn cases() -> u32 {
    std::env::var("GARBLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}
