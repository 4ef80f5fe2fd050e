//! The backend: actix-web in a process of its own, answers made beforehand. `max_tokens` says how many tokens a
//! stream has, `seed` how many milliseconds lie between them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::{Value, json};

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"four words of answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
/// What real servers send for a token: about 200 bytes.
const TOKEN: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const END: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// The word by which this program starts itself as the backend.
pub const ARGUMENT: &str = "be-the-backend";

/// The backend as a process of its own, as a model server is; ended by id.
pub struct Backend {
    process: Child,
    pub port: u16,
}

impl Backend {
    pub fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until it is ended; prints its port.
pub fn serve() {
    actix_rt::System::new().block_on(async {
        let models = || async { HttpResponse::Ok().json(json!({ "data": [{ "id": "m" }] })) };
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::PayloadConfig::new(64 << 20))
                .route("/v1/models", web::get().to(models))
                .route("/v1/chat/completions", web::post().to(chat))
        })
        .workers(1)
        .tcp_nodelay(true)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        println!("{}", server.addrs()[0].port());
        server.run().await.unwrap();
    });
}

async fn chat(body: Bytes) -> HttpResponse {
    let request: Value = serde_json::from_slice(&body).unwrap();
    if request["stream"] != true {
        return HttpResponse::Ok().content_type("application/json").body(ANSWER);
    }
    let tokens = request["max_tokens"].as_u64().unwrap_or(16);
    let pace = Duration::from_millis(request["seed"].as_u64().unwrap_or(0));
    let start = tokio::time::Instant::now();
    let frames = futures_util::stream::unfold(0, move |sent| async move {
        if sent > tokens {
            return None;
        }
        if !pace.is_zero() {
            tokio::time::sleep_until(start + pace * u32::try_from(sent).unwrap()).await;
        }
        let frame = if sent == tokens { END } else { TOKEN };
        Some((Ok::<_, actix_web::Error>(Bytes::from_static(frame.as_bytes())), sent + 1))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(frames)
}
