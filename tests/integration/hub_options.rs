//! Options of `hub`, and lists of more than one page on the command line.

use serde_json::json;
use testkit::free_port;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, start_hub_with};
use testkit::wait::wait_for;
use tokio::net::TcpStream;

/// A hub with an invalid admin token ends before it creates files. One line end after the token is ignored.
#[actix_rt::test]
async fn a_hub_with_an_invalid_admin_token_ends_at_start() {
    for bad in [
        "",
        "fifteen-letters",
        "two words and some more",
        "a-tab\tin-the-middle",
        " leading-space-0123",
        "trailing-space-0123 ",
        "two-line-ends-012345\n\n",
        "fifteen-letters\n",
        "línea-0123456789abc",
    ] {
        let home = Home::new();
        let data = home.path().join("data");
        let mut command =
            home.command(&["hub", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]);
        let output = command.env("VIRTUAL_LLM_ADMIN_TOKEN", bad).output().await.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {text}");
        assert!(
            text.contains("VIRTUAL_LLM_ADMIN_TOKEN is not a token: it has to be 16 or more"),
            "{bad:?}: {text}"
        );
        assert_eq!(text.trim().lines().count(), 1, "{text}");
        assert!(bad.is_empty() || !text.contains(bad.trim_end()), "an invalid secret is not printed either");
        assert!(!data.exists(), "no file was created");
    }
    for good in ["a-token-of-sixteen\n", "a-token-of-sixteen\r\n"] {
        let (home, port) = (Home::new(), free_port());
        let mut command = home.command(&["hub", "--in-memory", "--listen", &format!("127.0.0.1:{port}")]);
        let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", good).spawn().unwrap());
        hub.logs("listens on").await;
        let http = Http::new(&format!("http://127.0.0.1:{port}"), "a-token-of-sixteen");
        assert_eq!(http.get("/api/v1/whoami").await.status, 200, "{good:?}");
    }
}

#[actix_rt::test]
async fn get_task_lists_all_pages_and_the_quota_error_is_readable() {
    let (home, port) = (Home::new(), free_port());
    let _hub = start_hub_with(&home, port, &["--disk-per-user", "200KiB"]);
    let url = format!("http://127.0.0.1:{port}");
    wait_for("the hub listens", || async { TcpStream::connect(("127.0.0.1", port)).await.ok() }).await;
    home.credentials(&url, ADMIN);
    let http = Http::new(&url, ADMIN);
    let provider = json!({ "name": "away", "type": "openai", "model": "m", "initialStatus": "active" });
    http.post("/api/v1/llms/_provider-register", &json!({ "providers": [provider] })).await;
    let task = json!({ "llm": "away", "request": { "messages": [] } });
    for _ in 0..205 {
        assert_eq!(http.post("/api/v1/inference-tasks", &task).await.status, 202);
    }
    let listed = home.run(&["get", "task", "-o", "name"]).await;
    assert_eq!(listed.code(), 0, "{}", listed.stderr);
    let names: std::collections::HashSet<&str> = listed.stdout.lines().collect();
    assert_eq!(names.len(), 205);
    let large = json!({ "llm": "away", "request": { "x": "x".repeat(120 << 10) } });
    let refused = http.post("/api/v1/inference-tasks", &large).await;
    assert_eq!(refused.status, 429);
    assert!(refused.json()["error"].as_str().unwrap().contains("on the hub's disk"));
}
