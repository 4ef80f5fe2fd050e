//! The hub's public address in all outputs that contain an address, and the output of `token create` for scripts.

use serde_json::Value;
use testkit::free_port;
use testkit::process::Home;
use testkit::team::hub_in_memory;
use testkit::terminal::Terminal;

const PUBLIC: &str = "https://models.example.org/team-a";

#[actix_rt::test]
async fn token_create_prints_a_login_command_with_the_public_address() {
    let slashed = format!("{PUBLIC}/");
    let (home, hub, _) = hub_in_memory(&["--public-url", &slashed]).await;
    hub.logs(&format!("others reach the hub at {PUBLIC}")).await;
    let create = ["token", "create", "--user", "zoe"];
    let login = format!("virtual-llm login {PUBLIC}");

    let piped = home.run(&create).await;
    assert_eq!((piped.code(), piped.stdout.lines().count()), (0, 1), "{piped:?}");
    let token = piped.stdout.trim();
    assert!(token.len() > 20 && token.bytes().all(|byte| byte.is_ascii_graphic()), "{piped:?}");
    assert!(piped.stderr.ends_with(&format!("{login}\n")) && !piped.stderr.contains(token), "{piped:?}");

    let terminal = Terminal::start(&home, &create, 100);
    let (status, text) = terminal.end().await;
    assert!(status.success() && text.contains(&login), "{text}");

    let json = home.run(&[&create[..], &["-o", "json"]].concat()).await;
    let made: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((made["user"].as_str(), made["hubUrl"].as_str()), (Some("zoe"), Some(PUBLIC)));
    assert!(made["token"].is_string() && made["id"].is_string() && json.stderr.is_empty(), "{json:?}");
    let yaml = home.run(&[&create[..], &["-o", "yaml"]].concat()).await.stdout;
    assert!(yaml.contains(&format!("hubUrl: {PUBLIC}")) && yaml.contains("token: "), "{yaml}");
    let list = home.run(&["token", "list", "-o", "json"]).await.stdout;
    assert!(!list.contains("hubUrl") && !list.contains(token), "{list}");
}

#[actix_rt::test]
async fn without_a_public_url_the_hub_uses_the_address_of_the_request() {
    let (home, _hub, url) = hub_in_memory(&[]).await;
    let piped = home.run(&["token", "create", "--user", "zoe"]).await;
    assert!(piped.stderr.contains(&format!("virtual-llm login {url}\n")), "{piped:?}");
    let json = home.run(&["token", "create", "--user", "zoe", "-o", "json"]).await.stdout;
    let made: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(made["hubUrl"], url);
}

#[actix_rt::test]
async fn an_unusable_public_url_is_bad_usage() {
    let home = Home::new();
    for bad in [
        "hub.example",
        "ftp://hub.example",
        "https://",
        "https://h/?a=b",
        "https://h/#x",
        "https://me@h",
        "http://h:0",
        "https://h:70000/x",
        "",
    ] {
        for command in [
            &["hub", "--in-memory", "--listen", "127.0.0.1:0", "--public-url", bad][..],
            &["up", "--once", "--public-url", bad],
            &["service", "install", "hub", "--print", "--", "--public-url", bad],
        ] {
            let outcome = home.run(command).await;
            assert_eq!(outcome.code(), 2, "{command:?}: {outcome:?}");
            assert!(
                outcome.stderr.contains("--public-url") && outcome.stderr.contains("expected"),
                "{outcome:?}"
            );
        }
    }
    let print = ["service", "install", "hub", "--print", "--", "--public-url", PUBLIC];
    let unit = home.run(&print).await;
    assert!(unit.stdout.contains(&format!("--public-url {PUBLIC}")), "{unit:?}");
}

#[actix_rt::test]
async fn up_prints_the_public_address() {
    let home = Home::new();
    home.providers(&serde_json::json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let port = free_port().to_string();
    let up = home.start(&["up", "--model", "echo", "--port", &port, "--public-url", PUBLIC]);
    up.prints("Serving until Ctrl-C").await;
    let text = up.stdout();
    assert!(text.contains(&format!("URL    {PUBLIC}\n")), "{text}");
    assert!(
        text.contains(&format!("base_url=\"{PUBLIC}/v1\"")) && text.contains(&format!("curl {PUBLIC}/v1/"))
    );
}
