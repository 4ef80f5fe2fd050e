use std::fs;
use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::cli::{Cli, Command};

fn parse(words: &[&str]) -> (Global, InstallArgs) {
    let cli = Cli::try_parse_from([&["virtual-llm", "service", "install"], words].concat()).unwrap();
    match cli.command {
        Command::Service(ServiceCommand::Install(args)) => (cli.global, args),
        other => panic!("{other:?}"),
    }
}

fn line(words: &[&str]) -> Vec<String> {
    let (global, args) = parse(words);
    command_line(Path::new("/usr/bin/virtual-llm"), &global, &args).unwrap()
}

#[test]
fn a_service_has_the_options_of_the_call() {
    assert_eq!(line(&[]), ["/usr/bin/virtual-llm", "publish"]);
    assert_eq!(
        line(&["--home", "/h", "--hub-url", "https://hub", "--", "--drain-timeout", "5m"]),
        [
            "/usr/bin/virtual-llm",
            "publish",
            "--home",
            "/h",
            "--hub-url",
            "https://hub",
            "--drain-timeout",
            "5m"
        ]
    );
    assert!(line(&["--config", "here.json"])[3].starts_with('/'), "a service runs in another folder");
}

#[test]
fn a_hub_has_its_data_in_the_folder_of_the_system_by_default() {
    let unit = systemd::service(Served::Hub, &line(&["hub"])).unwrap();
    assert!(
        unit.text.contains("ExecStart=/usr/bin/virtual-llm hub --data-dir /var/lib/virtual-llm\n"),
        "{}",
        unit.text
    );
    let unit = systemd::service(Served::Hub, &line(&["hub", "--", "--data-dir=/srv/hub"])).unwrap();
    assert!(unit.text.contains("ExecStart=/usr/bin/virtual-llm hub --data-dir=/srv/hub\n"), "{}", unit.text);
}

#[test]
fn a_hub_has_a_capability_only_for_a_privileged_port() {
    for (listen, is_privileged) in [
        (&["--listen", "0.0.0.0:443"][..], true),
        (&["--listen=[::]:80"], true),
        (&["--listen", "0.0.0.0:1024"], false),
        (&["--listen=127.0.0.1:0"], false),
        (&["--tls-cert", "/c:443"], false),
        (&[], false),
    ] {
        let unit = systemd::service(Served::Hub, &line(&[&["hub", "--"], listen].concat())).unwrap().text;
        assert_eq!(
            unit.contains("\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n"),
            is_privileged,
            "{listen:?}"
        );
        assert_eq!(
            unit.contains("\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"),
            is_privileged,
            "{listen:?}"
        );
        assert_eq!(
            unit.contains("\nCapabilityBoundingSet=\nPrivateUsers=yes\n"),
            !is_privileged,
            "{listen:?}"
        );
    }
}

#[test]
fn words_are_escaped_in_a_property_list() {
    let list = launchd::service(Served::Publish, &line(&["--home", "/a & <b>"])).unwrap();
    assert!(list.text.contains("    <string>/a &amp; &lt;b&gt;</string>\n"), "{}", list.text);
}

#[test]
fn a_changed_file_is_replaced_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let service = |text: &str| Service {
        path: folder.path().join("new/unit"),
        text: text.to_owned(),
        next: String::new(),
    };
    write(&service("one"), false).unwrap();
    write(&service("one"), false).unwrap();
    let failure = write(&service("two"), false).unwrap_err();
    assert!(failure.text().unwrap().contains("--force replaces it"));
    write(&service("two"), true).unwrap();
    let unit = folder.path().join("new/unit");
    assert_eq!(fs::read_to_string(&unit).unwrap(), "two");
    // A file that is not UTF-8 or too large is not replaced either.
    for content in [b"\xff".to_vec(), vec![b'a'; usize::try_from(MAX_FILE).unwrap() + 1]] {
        fs::write(&unit, &content).unwrap();
        let failure = write(&service("two"), false).unwrap_err();
        assert!(failure.text().unwrap().contains("--force replaces it"));
        assert_eq!(fs::read(&unit).unwrap(), content);
        write(&service("two"), true).unwrap();
        assert_eq!(fs::read_to_string(&unit).unwrap(), "two");
    }
}

#[test]
fn a_pipe_instead_of_a_service_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unit");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for force in [false, true] {
        let service = Service { path: path.clone(), text: "one".to_owned(), next: String::new() };
        let failure = write(&service, force).unwrap_err();
        assert!(failure.text().unwrap().ends_with("unit: it is not a regular file"), "{failure:?}");
    }
}
