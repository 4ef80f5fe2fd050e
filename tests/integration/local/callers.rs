//! Who may use the port of `local`, and for what.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::process::Home;
use testkit::skipped;
use testkit::team::ADMIN;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Scene, chat};

/// A user without files or processes.
const STRANGER: u32 = 65_534;

/// The token leads to everything that its user may do: no more than inference is passed on.
#[actix_rt::test]
async fn the_rest_of_the_hubs_api_is_not_passed_on() {
    let scene = Scene::start().await;
    for request in [
        "GET /api/v1/tokens",
        "POST /api/v1/tokens",
        "GET /api/v1/whoami",
        "GET //api/v1/tokens",
        "GET /v1/../api/v1/tokens",
        "GET /v1/models/..%2f..%2fapi%2fv1%2ftokens",
        "GET /api/v1/llms/_provider-stream",
        "GET /metrics",
        "GET /console/",
    ] {
        assert_eq!(scene.ask(request, "", None).await.status, 404, "{request}");
    }
    for (request, key) in [("GET /metrics", "/error/message"), ("GET /api/v1/whoami", "/error")] {
        let text = scene.ask(request, "", None).await.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert!(answer.pointer(key).unwrap().as_str().unwrap().contains("not this path"), "{text}");
    }
    assert_eq!(scene.ask("DELETE /", "", None).await.status, 405);
}

#[actix_rt::test]
async fn pages_of_other_sites_are_refused() {
    let scene = Scene::start().await;
    for headers in [
        "Origin: https://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: chrome-extension://abcdefghijklmnopabcdefghijklmnop\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        // A second host.
        "Host: evil.example\r\n",
    ] {
        let answer = scene.ask("POST /v1/chat/completions", headers, Some(&chat(false))).await;
        assert_eq!(answer.status, 403, "{headers}");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{headers}");
        let error: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "forbidden", "{error}");
    }
    assert_eq!(scene.team.backend.requests().len(), 0);
    let own = "Origin: http://localhost:3000\r\n";
    let answer = scene.ask("GET /v1/models", own, None).await;
    let allowed = answer.header("access-control-allow-origin").map(str::to_owned);
    assert_eq!((answer.status, allowed.as_deref()), (200, Some("http://localhost:3000")));
    let asks = format!(
        "{own}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n"
    );
    let preflight = scene.ask("OPTIONS /v1/chat/completions", &asks, None).await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type"));
}

#[actix_rt::test]
async fn origins_are_named_one_by_one() {
    let home = Home::new();
    home.credentials("http://127.0.0.1:1", ADMIN);
    for origin in ["*", "null", "app.example"] {
        let outcome = home.run(&["local", "--port", "0", "--cors-origin", origin]).await;
        assert_eq!(outcome.code(), 2, "{outcome:?}");
    }
}

/// A registrar takes port 11434 for Ollama's, and would publish the hub's models to the hub.
#[actix_rt::test]
async fn its_models_are_not_found_as_those_of_a_backend() {
    let scene = Scene::start().await;
    let url = format!("http://127.0.0.1:{}/v1", scene.port);
    let outcome = Home::new().run(&["add", "--yes", "--url", &url]).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("cannot ask"), "{outcome:?}");
}

/// Other users of the machine would use the models in this user's name.
#[actix_rt::test]
async fn other_users_of_the_machine_are_refused_unless_an_option_admits_them() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a program of another user, which only root can start");
    }
    for (options, line) in [(&[][..], "HTTP/1.0 403 "), (&["--all-users"], "HTTP/1.0 200 ")] {
        let scene = Scene::start_with(options).await;
        let ask = format!(
            r"exec 3<>/dev/tcp/127.0.0.1/{}; printf 'GET /v1/models HTTP/1.0\r\n\r\n' >&3; cat <&3",
            scene.port
        );
        let mut bash = Command::new("bash");
        let output = bash.args(["-c", &ask]).uid(STRANGER).gid(STRANGER).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with(line), "{options:?}: {output:?}");
        assert_eq!(text.contains(r#""local""#), line.contains("200"), "{text}");
    }
}

/// 550 connections are more than the command holds.
#[actix_rt::test]
async fn another_user_cannot_hold_all_connections() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("a program of another user, which only root can start");
    }
    let scene = Scene::start().await;
    let hold = format!(
        "for i in $(seq 550); do exec {{held}}<>/dev/tcp/127.0.0.1/{}; done; echo held; read -r",
        scene.port
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &hold]).uid(STRANGER).gid(STRANGER).kill_on_drop(true);
    let mut holder = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
    assert_eq!(line, "held\n");
    let asked = timeout(Duration::from_secs(20), scene.ask("GET /v1/models", "", None)).await;
    assert_eq!(asked.expect("an answer within 20 s").status, 200);
}
