//! The properties, and what of the program they need.

#![allow(dead_code, unused_imports, reason = "of the program only what reads a configuration is used")]

#[path = "../../src/cli/global.rs"]
mod cli;
#[path = "../../src/config/mod.rs"]
mod config;
#[path = "../../src/exit.rs"]
mod exit;
pub mod properties;
