//! The document at `/openapi.json` as others read it: a validator, and schemathesis, which calls a hub with what the document
//! allows and forbids, and compares the answers with it.
//!
//! `tests/openapi/requirements.txt` has both tools; `.ci/run` installs them into `target/tools/openapi`. `OPENAPI_SECONDS` and
//! `OPENAPI_SEED` make a longer run and another one, `OPENAPI_TOOLS` is another folder of the tools.

use std::path::PathBuf;
use std::process::Stdio;

use awc::http::Method;
use serde_json::{Value, json};
use testkit::http::Http;
use testkit::skipped;
use testkit::team::{ADMIN, Team};
use tokio::process::Command;

/// A tool; `None` if it is not installed.
fn tool(name: &str) -> Option<PathBuf> {
    let installed = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/openapi/bin"));
    let folder = std::env::var_os("OPENAPI_TOOLS").map_or_else(installed, PathBuf::from);
    let program = folder.join(name);
    if !program.exists() {
        skipped(&format!("{name}, which is not in {}", folder.display()));
        return None;
    }
    Some(program)
}

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

#[actix_rt::test]
async fn the_document_is_valid_openapi() {
    let Some(validator) = tool("openapi-spec-validator") else { return };
    let team = Team::start().await;
    let path = team.home.path().join("openapi.json");
    std::fs::write(&path, team.http.get("/openapi.json").await.body).unwrap();
    let mut command = Command::new(validator);
    command.args(["--schema", "3.1", "--subschema-errors", "all"]).arg(path).stdin(Stdio::null());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Makes what `tests/openapi/schemathesis.toml` names, as the user of `token`, and returns the variables that it reads.
async fn world(team: &Team, token: &str) -> [(&'static str, String); 4] {
    let row =
        json!({ "name": "upstream", "type": "openai", "model": "fake-model", "url": team.backend.url() });
    assert_eq!(team.http.post("/api/v1/llms", &row).await.status, 201);
    let http = Http::new(&format!("http://127.0.0.1:{}", team.port), token);
    for alias in ["known-as", "default"] {
        let target = json!({ "target": "upstream" }).to_string();
        http.send(Method::PUT, &format!("/api/v1/aliases/{alias}"), Some(target)).await;
    }
    http.post("/api/v1/agents", &json!({ "name": "helper", "llmName": "upstream" })).await;
    let task = json!({ "llm": "upstream", "request": { "messages": [] } });
    let task = http.post("/api/v1/inference-tasks", &task).await.json();
    let spare = json!({ "providers": [{ "name": "spare", "type": "openai", "model": "m" }] });
    let session = http.post("/api/v1/llms/_provider-register", &spare).await.json();
    // Without a token there is none.
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    [
        ("HUB_TOKEN", token.to_owned()),
        ("HUB_TASK", text(&task["id"])),
        ("HUB_SESSION", text(&session["providerSessionId"])),
        ("HUB_UPSTREAM", team.backend.url()),
    ]
}

/// Has schemathesis call a hub with the token that `token` returns. Fails with its report if an answer is not as the document
/// says.
async fn drive(token: impl AsyncFnOnce(&Team) -> String) {
    let Some(program) = tool("schemathesis") else { return };
    let team = Team::start().await;
    let token = token(&team).await;
    let world = world(&team, &token).await;
    let url = format!("http://127.0.0.1:{}", team.port);
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/schemathesis.toml");
    let mut command = Command::new(program);
    command.args(["--config-file", config, "--no-color", "run", &format!("{url}/openapi.json")]);
    command.args(["--url", &url, "--seed", &number("OPENAPI_SEED").unwrap_or(1).to_string()]);
    match number("OPENAPI_SECONDS") {
        Some(seconds) => command.args(["--max-time", &seconds.to_string()]),
        None => command.args(["--max-examples", "6", "--phases", "coverage,fuzzing"]),
    };
    command.current_dir(team.home.path()).env_clear().envs(world).env("HOME", team.home.path());
    // Nothing is written beside the hooks.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("SCHEMATHESIS_HOOKS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/hooks.py"));
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    let tested = report.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<u32>().ok());
    assert!(tested.is_some_and(|tested| tested > 80), "{report}");
}

#[actix_rt::test]
async fn an_admin_is_answered_as_the_document_says() {
    drive(async |_| ADMIN.to_owned()).await;
}

#[actix_rt::test]
async fn a_member_is_answered_as_the_document_says() {
    drive(async |team| {
        let made = team.http.post("/api/v1/tokens", &json!({ "user": "member" })).await;
        made.json()["token"].as_str().unwrap().to_owned()
    })
    .await;
}

#[actix_rt::test]
async fn a_caller_without_a_token_is_answered_as_the_document_says() {
    drive(async |_| String::new()).await;
}
