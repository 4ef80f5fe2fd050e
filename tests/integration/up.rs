//! `up` without a configuration. Only the mock is offered, so that no real backend on the machine answers instead.

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::http::Http;
use testkit::process::Home;

fn home() -> Home {
    let home = Home::new();
    home.providers(&json!([{ "name": "echo", "type": "mock", "model": "mock", "publish": true }]));
    home
}

#[actix_rt::test]
async fn up_once_prints_a_streamed_answer_and_exits() {
    let outcome = home().run(&["up", "--once", "--model", "echo"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stdout.contains("echo> Say hello"), "{outcome:?}");
}

#[actix_rt::test]
async fn up_serves_the_printed_address_until_sigterm() {
    let home = home();
    let process = home.start(&["up", "--model", "echo"]);
    process.prints("Serving until Ctrl-C").await;
    let printed = process.stdout();
    let after = |label: &str| {
        let line = printed.lines().find(|line| line.starts_with(label)).unwrap();
        line[label.len()..].trim().to_owned()
    };
    let http = Http::new(&after("URL"), &after("Token"));
    let code = printed.split("/#/sign-in/").nth(1).unwrap().split_whitespace().next().unwrap();
    let signed_in = Http::new(&after("URL"), code).post("/api/v1/sign-in", &json!({})).await;
    assert_eq!(signed_in.json()["user"], "me", "{signed_in:?}");
    let chat = json!({ "model": "echo", "messages": [{ "role": "user", "content": "well met" }] });
    let answer = http.post("/v1/chat/completions", &chat).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "well met", "{answer:?}");
    process.signal(Signal::SIGINT);
    assert_eq!(process.end().await.code(), 0);
}

#[actix_rt::test]
async fn up_does_not_disturb_a_running_publish() {
    let (hub, home) = (testkit::classic_hub::ClassicHub::start(), home());
    home.credentials(&hub.url(), "t");
    let publish = home.start(&["publish"]);
    hub.channel(1).await;
    let outcome = home.run(&["up", "--once", "--model", "echo"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    hub.infer("t1", "echo", false, "still here");
    hub.ended("t1").await;
    publish.signal(Signal::SIGTERM);
    assert_eq!(publish.end().await.code(), 0);
}
