//! Error messages for problems between machines: certificates, addresses, second instances, full disks.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::certificate::Certificate;
use testkit::classic_hub::ClassicHub;
use testkit::golden::Sheet;
use testkit::process::{Home, Outcome, Process};
use testkit::skipped;

const ADMIN: &str = "an-admin-token-for-tests-alone";

/// Starts a hub with these options on a free port.
async fn hub(home: &Home, options: &[&str]) -> (Process, String) {
    let args: Vec<_> = ["hub", "--listen", "127.0.0.1:0"].iter().chain(options).copied().collect();
    let mut command = home.command(&args);
    let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
    hub.logs("://127.0.0.1:").await;
    let log = hub.stderr();
    let after = log.split("://127.0.0.1:").nth(1).unwrap();
    (hub, after.chars().take_while(char::is_ascii_digit).collect())
}

/// Writes a key and a certificate for `name` that is valid until the year `until`.
pub fn certificate(folder: &Path, name: &str, until: i32) -> (PathBuf, PathBuf) {
    Certificate::own_authority(name, (2020, until)).write_to(folder, &format!("{name}-{until}"))
}

/// F80: plain http on a TLS port, and each kind of invalid certificate, has its own error message.
#[actix_rt::test]
async fn each_tls_problem_has_its_own_message() {
    let mut sheet = Sheet::default();
    let home = Home::new();
    home.write("config.json", r#"{ "providers": [{ "name": "a", "type": "mock", "publish": true }] }"#);
    for (what, name, until, trusted) in [
        ("an expired certificate", "127.0.0.1", 2021, true),
        ("a certificate of nobody", "127.0.0.1", 2099, false),
        ("a certificate for another name", "hub.example", 2099, true),
        ("http for https", "127.0.0.1", 2099, false),
    ] {
        let (cert, key) = certificate(home.path(), name, until);
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let (_hub, port) = hub(&home, &["--in-memory", "--tls-cert", cert, "--tls-key", key]).await;
        let scheme = if what.starts_with("http ") { "http" } else { "https" };
        home.credentials(&format!("{scheme}://127.0.0.1:{port}"), ADMIN);
        let hidden = [(port.as_str(), "PORT")];
        let trust: &[&str] = if trusted { &["--ca-file", cert] } else { &[] };
        let with = |args: &[&'static str]| -> Vec<String> {
            args.iter().chain(trust).map(|&arg| arg.to_owned()).collect()
        };
        for args in [with(&["get", "llm"]), with(&["check"])] {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            sheet.mistake(what, &home, &args, &hidden).await;
        }
        // A registrar keeps trying, because the certificate may be renewed.
        let args = with(&["publish"]);
        let publish = home.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        publish.logs("not registered").await;
        let outcome = stopped(publish).await;
        let first = outcome.stderr.lines().find(|line| line.contains("not registered")).unwrap();
        let first = first.split("; next try").next().unwrap().to_owned();
        let outcome = Outcome { stderr: first, ..outcome };
        sheet.note(what, &home, &args.iter().map(String::as_str).collect::<Vec<_>>(), &outcome, &hidden);
    }
    home.credentials("https://x", ADMIN);
    let missing = home.path().join("none.pem");
    let missing = missing.to_str().unwrap();
    sheet
        .mistake(
            "no such CA file",
            &home,
            &["get", "llm", "--ca-file", missing, "--hub-url", "https://x"],
            &[],
        )
        .await;
    sheet
        .mistake(
            "no such certificate",
            &home,
            &["hub", "--in-memory", "--tls-cert", missing, "--tls-key", missing],
            &[],
        )
        .await;
    sheet.is_golden("tls.txt");
}

async fn stopped(process: Process) -> Outcome {
    process.signal(Signal::SIGTERM);
    process.end().await
}

/// An outdated hub, another program on the port, a name of another user, and a second instance each have their own message.
#[actix_rt::test]
async fn each_conflict_with_another_program_or_user_is_named() {
    let mut sheet = Sheet::default();
    let old = ClassicHub::start();
    let old_port = old.port().to_string();
    let home = Home::new();
    home.write("config.json", r#"{ "providers": [{ "name": "a", "type": "mock", "publish": true }] }"#);
    home.credentials(&old.url(), ADMIN);
    let hidden = [(old_port.as_str(), "OLD")];
    old.script(
        "_provider-register",
        [(404, json!({ "error": "Route POST:/api/v1/llms/_provider-register not found" }))],
    );
    sheet.mistake("a hub too old", &home, &["publish"], &hidden).await;
    sheet.mistake("another program for a hub", &home, &["get", "llm"], &hidden).await;
    sheet.mistake("another program for a hub", &home, &["check"], &hidden).await;

    let data = home.path().join("data");
    let data = data.to_str().unwrap();
    let (_hub, port) = hub(&home, &["--data-dir", data]).await;
    let hidden = [(port.as_str(), "PORT")];
    sheet
        .mistake("a second hub", &home, &["hub", "--data-dir", data, "--listen", "127.0.0.1:0"], &hidden)
        .await;

    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    let first = home.start(&["publish"]);
    first.logs("channel").await;
    sheet.mistake("a second registrar", &home, &["publish"], &hidden).await;
    let other = Home::new();
    other.write("config.json", r#"{ "providers": [{ "name": "a", "type": "mock", "publish": true }] }"#);
    other.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    sheet.mistake("a name that another registrar has", &other, &["publish"], &hidden).await;
    sheet
        .mistake(
            "a name at the hub taken",
            &other,
            &["create", "llm", "a", "--type", "openai", "--model", "m", "--url", "http://127.0.0.1:9"],
            &hidden,
        )
        .await;
    sheet.is_golden("others.txt");
}

/// The error of a failed write says that the disk is full and names the file. The test mounts a small file system.
#[actix_rt::test]
async fn the_error_on_a_full_disk_says_so_and_names_the_file() {
    let home = Home::new();
    let full = home.path().join("full");
    std::fs::create_dir(&full).unwrap();
    let script = "mount -t tmpfs -o size=16k,mode=0700 none \"$1\" && head -c 65536 /dev/zero >\"$1/fill\"; \
        [ -s \"$1/fill\" ] || exit 77; shift; exec \"$@\"";
    let (_hub, port) = hub(&home, &["--in-memory"]).await;
    let mut sheet = Sheet::default();
    let url = format!("http://127.0.0.1:{port}");
    let token = home.write("token", ADMIN);
    let (full, token) = (full.to_str().unwrap(), token.to_str().unwrap());
    for args in [
        vec!["hub", "--data-dir", full, "--listen", "127.0.0.1:0"],
        vec!["--home", full, "login", &url, "--token-file", token],
    ] {
        let inner = home.command(&args);
        let mut command = tokio::process::Command::new("unshare");
        command.args(["-rm", "sh", "-c", script, "sh", full]).arg(inner.as_std().get_program()).args(&args);
        command.env("HOME", home.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(child) = command.kill_on_drop(true).spawn() else {
            skipped("a full disk, as `unshare` is not installed");
            return;
        };
        let outcome = Process::new(child).end().await;
        if outcome.stderr.contains("unshare:") || outcome.stderr.contains("mount:") || outcome.code() == 77 {
            skipped(&format!("a full disk, as the test cannot mount a file system here: {}", outcome.stderr));
            return;
        }
        let said =
            outcome.stderr.lines().filter(|line| !line.starts_with("head:")).collect::<Vec<_>>().join("\n");
        let outcome = Outcome { stderr: said, ..outcome };
        sheet.note("a full disk", &home, &args, &outcome, &[(port.as_str(), "PORT")]);
    }
    sheet.is_golden("disk-full.txt");
}
