use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::{Cli, duration};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_text_has_an_example() {
    fn walk(command: &mut clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let help = command.render_help().to_string();
        assert!(help.contains("Example"), "no example in the help of{path}");
        for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
            walk(inner, &path);
        }
    }
    let mut command = Cli::command();
    command.build();
    walk(&mut command, "");
}

#[test]
fn global_options_are_accepted_before_and_after_the_command() {
    for line in [
        ["virtual-llm", "--home", "/h", "--hub-url", "http://x", "get", "llm"],
        ["virtual-llm", "get", "llm", "--home", "/h", "--hub-url", "http://x"],
        ["virtual-llm", "get", "--home", "/h", "llm", "--hub-url", "http://x"],
    ] {
        let cli = Cli::try_parse_from(line).unwrap();
        assert_eq!(cli.global.home.unwrap().to_str(), Some("/h"));
        assert_eq!(cli.global.hub_url.as_deref(), Some("http://x"));
    }
}

#[test]
fn durations_are_parsed_with_every_unit() {
    for (text, millis) in [
        ("250ms", 250),
        ("30s", 30_000),
        ("1.5s", 1_500),
        ("0.1s", 100),
        ("2m", 120_000),
        ("4h", 14_400_000),
        ("7d", 604_800_000),
        ("0", 0),
        ("0s", 0),
    ] {
        assert_eq!(duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
    }
}

#[test]
fn invalid_durations_are_refused() {
    for text in ["", "30", "s", "-1s", "1 s", "30 sec", "1e3s", "1..5s", "999999999h", "∞"] {
        assert!(duration::parse(text).is_err(), "{text}");
    }
    assert!(duration::parse_positive("0s").is_err());
}

#[test]
fn plurals_and_long_names_are_accepted_by_get() {
    for kind in ["llm", "llms", "agent", "agents", "session", "sessions", "task", "tasks", "inference-task"] {
        Cli::try_parse_from(["virtual-llm", "get", kind]).unwrap();
    }
}

/// A32: the default address of a hub is a loopback address.
#[test]
fn a_hub_listens_on_loopback_by_default() {
    let cli = Cli::try_parse_from(["virtual-llm", "hub"]).unwrap();
    let super::Command::Hub(hub) = cli.command else { panic!("another command") };
    let listen: std::net::SocketAddr = hub.listen.parse().unwrap();
    assert!(listen.ip().is_loopback(), "{listen}");
}
