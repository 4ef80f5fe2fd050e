//! A backend of one's own: anything that can turn a request into an answer can be published.
//!
//! `cargo run --example custom_backend -- http://127.0.0.1:8787 TOKEN`, then `virtual-llm chat-llm parrot -m hello`.

use std::rc::Rc;
use std::sync::Arc;

use actors::backend::{Backend, BackendError, BackendRequest, Reply};
use actors::options::{BackendConfig, CustomBackend};
use actors::{Credentials, Options, ProviderConfig, Registrar, Secret};
use anyhow::Context as _;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::{Value, json};

/// Says the caller's last words again, a letter at a time.
struct Parrot;

impl Backend for Parrot {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        async move {
            let body: Value = serde_json::from_slice(&request.body)
                .map_err(|error| BackendError::Failed(error.to_string()))?;
            let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
            let heard =
                messages.last().and_then(|message| message["content"].as_str()).unwrap_or("?").to_owned();
            if !request.streaming {
                let message = json!({ "role": "assistant", "content": heard });
                let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
                let body =
                    json!({ "object": "chat.completion", "model": body["model"], "choices": [choice] });
                return Ok(Reply::Whole { status: 200, body: body.to_string() });
            }
            let letters: Vec<char> = heard.chars().collect();
            Ok(Reply::Stream(
                stream::iter(letters)
                    .map(|letter| Ok(chunk(&json!({ "content": letter }), None)))
                    .chain(stream::once(async { Ok(chunk(&json!({}), Some("stop"))) }))
                    .boxed_local(),
            ))
        }
        .boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        async { true }.boxed_local()
    }
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    json!({ "object": "chat.completion.chunk", "choices": [choice] }).to_string()
}

#[actix_rt::main]
async fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,actors=info")).init();
    let mut args = std::env::args().skip(1);
    let usage = "usage: custom_backend HUB_URL TOKEN";
    let credentials = Credentials::new(args.next().context(usage)?, Secret::new(args.next().context(usage)?));
    let parrot = BackendConfig::Custom(CustomBackend(Arc::new(|| Rc::new(Parrot))));
    let provider = ProviderConfig::new("parrot".parse()?, "parrot", parrot);
    if let Some(registrar) = Registrar::maybe_start(Options::new(credentials, vec![provider])) {
        log::info!("{:?}", registrar.wait().await);
    }
    Ok(())
}
