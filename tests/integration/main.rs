//! The binary as users run it: real processes, real sockets, and a home directory for each test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panic; helpers are test code too"
)]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]

mod abilities;
mod account;
mod add;
mod affinity;
mod agents;
mod canaries;
mod checks;
mod classic;
mod cluster;
mod company_proxy;
mod completions;
mod connections;
mod console;
mod empty_answers;
mod end_to_end;
mod errors;
mod hostile_hub;
mod hub_away;
mod hub_options;
mod hubs;
mod json_log;
mod launch;
mod limits;
mod link;
mod local;
mod machine;
mod manage;
mod ollama;
mod openapi;
mod operate;
mod owned;
mod packaging;
mod pages;
mod proxies;
mod public_url;
mod registrar;
mod reload;
mod service;
mod sessions;
mod signals;
mod terminal;
mod told;
mod trouble;
mod up;
mod usage;
mod usage_sums;
mod vllm_sleep;
