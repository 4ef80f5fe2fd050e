//! What a model can do, from its backend to the hub's lists.

use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::http::Http;
use testkit::team::{ADMIN, connected_registrar, hub_in_memory};
use testkit::wait::eventually;

/// A backend that is started again with another context is asked again.
#[actix_rt::test]
async fn the_hub_shows_the_context_that_the_backend_serves_now() {
    let backend = FakeBackend::start();
    backend.script(|script| script.max_model_len = Some(32_768));
    let (home, _hub, url) = hub_in_memory(&[]).await;
    home.providers(&json!([{ "name": "a", "type": "vllm", "model": "fake-model", "url": backend.url(),
        "capabilities": { "tools": true }, "publish": true }]));
    let _registrar = connected_registrar(&home).await;
    let http = Http::new(&url, ADMIN);
    let shows = async |context: u32| {
        let model = http.get("/v1/models/a").await.json();
        model["context_length"] == context && model["capabilities"] == json!({ "tools": true })
    };
    eventually("the hub shows the context", async || shows(32_768).await).await;
    let described = home.run(&["describe", "llm", "a"]).await.stdout;
    assert!(described.contains("Context Length:       32768\nCapabilities:         tools\n"), "{described}");
    let wide = home.run(&["get", "llm", "-o", "wide"]).await.stdout;
    assert!(wide.contains("32768") && wide.contains("tools"), "{wide}");

    let port = backend.port();
    backend.stop().await;
    eventually("the hub knows that the backend is away", async || {
        http.get("/api/v1/llms/a").await.json()["status"] == "inactive"
    })
    .await;
    let other = FakeBackend::on(port);
    other.script(|script| script.max_model_len = Some(4096));
    eventually("the hub shows the new context", async || shows(4096).await).await;
}

/// A backend that never answers is published with what its owner says.
#[actix_rt::test]
async fn a_silent_backend_is_published_without_its_abilities() {
    let silent = testkit::peer::Listener::bind().await;
    let (home, _hub, url) = hub_in_memory(&[]).await;
    home.providers(&json!([{ "name": "a", "type": "llamacpp", "model": "m", "url": silent.url(),
        "contextLength": 512, "publish": true }]));
    let _registrar = connected_registrar(&home).await;
    let model = Http::new(&url, ADMIN).get("/v1/models/a").await.json();
    assert_eq!(model["context_length"], 512);
    assert_eq!(model.get("capabilities"), None);
}
