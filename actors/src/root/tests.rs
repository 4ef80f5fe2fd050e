//! The whole tree against a hub on loopback.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use std::rc::Rc;
use std::sync::Arc;
use wire::WireName;

use crate::backend::{Backend, BackendError, BackendRequest, Reply as Answer};
use crate::options::{BackendConfig, CustomBackend, Options, ProviderConfig};
use crate::registrar::{Ended, Registrar};
use crate::test_hub::{Reply, TestHub, quick, wait_until};

/// Answers `hello` to everything.
struct Greeter;

impl Backend for Greeter {
    fn infer(&self, _: BackendRequest) -> LocalBoxFuture<'static, Result<Answer, BackendError>> {
        let body = r#"{"choices":[{"message":{"content":"hello"}}]}"#.to_owned();
        ready(Ok(Answer::Whole { status: 200, body })).boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        ready(true).boxed_local()
    }
}

fn greeter(name: &str) -> ProviderConfig {
    let backend = BackendConfig::Custom(CustomBackend(Arc::new(|| Rc::new(Greeter))));
    ProviderConfig::new(WireName::parse(name).unwrap(), "model", backend)
}

fn options(hub: &TestHub, providers: Vec<ProviderConfig>) -> Options {
    Options { timings: quick(), ..Options::new(hub.credentials(), providers) }
}

async fn started(hub: &TestHub, names: &[&str]) -> Registrar {
    let providers = names.iter().map(|name| greeter(name)).collect();
    let registrar = Registrar::start(options(hub, providers)).unwrap();
    registrar.ready().await.unwrap();
    registrar
}

#[actix::test]
async fn it_registers_opens_its_channel_and_beats_right_after() {
    let hub = TestHub::start().await;
    let registrar = started(&hub, &["a"]).await;
    let register = hub.nth("_provider-register", 1).await;
    assert_eq!(
        register.body,
        r#"{"providers":[{"name":"a","type":"openai","model":"model","visibility":"private","initialStatus":"active"}]}"#
    );
    assert_eq!(register.headers["authorization"], "Bearer token-of-the-test");
    assert_eq!(register.headers["accept"], "application/json");
    assert_eq!(register.headers["content-length"], register.body.len().to_string());
    let stream = hub.nth("_provider-stream", 1).await;
    assert_eq!(stream.headers["x-mcpctl-provider-session"], "sess-of-the-hub");
    assert_eq!(stream.headers["accept"], "text/event-stream");
    assert_eq!(
        stream.headers["x-virtual-llm-features"],
        "cancel, result-stream, chunk-seq, status, drain, endpoints"
    );
    let beat = hub.nth("_provider-heartbeat", 1).await;
    assert_eq!(beat.body, r#"{"providerSessionId":"sess-of-the-hub"}"#);
    assert!(beat.at - stream.at < Duration::from_millis(200));
    registrar.stop();
    assert_eq!(registrar.wait().await, Ended::Stopped);
}

#[actix::test]
async fn a_hub_that_refuses_at_start_ends_it_with_the_hubs_reason() {
    let hub = TestHub::start().await;
    let taken = r#"{"error":"Cannot publish over public LLM: a"}"#.to_owned();
    hub.script("_provider-register", [Reply::Status(409, Vec::new(), taken)]);
    let registrar = Registrar::start(options(&hub, vec![greeter("a")])).unwrap();
    let ended = registrar.wait().await;
    assert_eq!(ended.exit_code(), 3);
    assert_eq!(
        ended,
        Ended::Refused("provider-register HTTP 409: Cannot publish over public LLM: a".to_owned())
    );
}

#[actix::test]
async fn a_hub_that_is_busy_or_odd_at_start_is_retried() {
    let hub = TestHub::start().await;
    let odd = |status, body: &str| Reply::Status(status, Vec::new(), body.to_owned());
    let replies = [
        Reply::Cut,
        Reply::status(408),
        Reply::status(425),
        Reply::status(429),
        Reply::status(500),
        Reply::status(503),
        Reply::status(200),
        odd(201, "not json"),
        odd(201, r#"{"providerSessionId":"with space"}"#),
    ];
    let tries = replies.len();
    hub.script("_provider-register", replies);
    let registrar = started(&hub, &["a"]).await;
    assert_eq!(hub.calls("_provider-register").len(), tries + 1);
    registrar.stop_now();
    assert_eq!(registrar.wait().await, Ended::Stopped);
}

#[actix::test]
async fn a_lost_channel_is_registered_and_opened_again_with_the_same_id() {
    let hub = TestHub::start().await;
    let registrar = started(&hub, &["a"]).await;
    hub.close_channels();
    let stream = hub.nth("_provider-stream", 2).await;
    let register = hub.nth("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-of-the-hub");
    assert!(register.at < stream.at);
    wait_until("open again", || hub.open_channels() == 1).await;
    registrar.stop_now();
    registrar.wait().await;
}

#[actix::test]
async fn a_task_for_an_unknown_provider_is_answered_and_a_malformed_one_is_skipped() {
    let hub = TestHub::start().await;
    let registrar = started(&hub, &["a"]).await;
    wait_until("a channel", || hub.open_channels() == 1).await;
    hub.send_task("{not json");
    hub.send_task(r#"{"kind":"dance","taskId":"t0","llmName":"a"}"#);
    hub.send("event: news\ndata: {}\n\n");
    hub.send_task(r#"{"kind":"infer","taskId":"t/1","llmName":"b","request":{}}"#);
    let result = hub.nth("_provider-task/t%2F1/result", 1).await;
    assert_eq!(result.body, r#"{"error":"provider 'b' not registered locally"}"#);
    assert_eq!(hub.open_channels(), 1);
    registrar.stop_now();
    registrar.wait().await;
}
