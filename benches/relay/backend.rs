//! The backend: actix-web in a process of its own, answers made beforehand. `max_tokens` says how many tokens a
//! stream has, `seed` how many milliseconds lie between them. It can be put to sleep and woken, and says when a stream
//! was closed before its end.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::{Value, json};
use testkit::process::Killed;

use crate::caller::now;

static AWAKE: AtomicBool = AtomicBool::new(true);
/// Streams closed before their end, and when the last one was, in nanoseconds since the epoch.
static CLOSED: AtomicU64 = AtomicU64::new(0);
static LAST_CLOSED: AtomicU64 = AtomicU64::new(0);

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"four words of answer"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#;
/// What real servers send for a token: about 200 bytes.
const TOKEN: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";
const END: &str = "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// The word by which this program starts itself as the backend.
pub const ARGUMENT: &str = "be-the-backend";

/// The backend as a process of its own, as a model server is; ended by id.
pub struct Backend {
    _process: Killed,
    pub port: u16,
}

impl Backend {
    pub fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = Killed::spawn(command.arg(ARGUMENT).stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { _process: process, port: line.trim().parse().unwrap() }
    }
}

/// Serves on `BENCH_PORT`, or a free port, until it is ended; prints its port.
pub fn serve() {
    actix_rt::System::new().block_on(async {
        let models = || async { HttpResponse::Ok().json(json!({ "data": [{ "id": "m" }] })) };
        let set_awake = |awake| {
            move || async move {
                AWAKE.store(awake, Ordering::SeqCst);
                HttpResponse::Ok().finish()
            }
        };
        let is_sleeping =
            || async { HttpResponse::Ok().json(json!({ "is_sleeping": !AWAKE.load(Ordering::SeqCst) })) };
        let closed =
            || async { format!("{} {}", CLOSED.load(Ordering::SeqCst), LAST_CLOSED.load(Ordering::SeqCst)) };
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::PayloadConfig::new(64 << 20))
                .route("/v1/models", web::get().to(models))
                .route("/is_sleeping", web::get().to(is_sleeping))
                .route("/wake", web::post().to(set_awake(true)))
                .route("/sleep", web::get().to(set_awake(false)))
                .route("/closed", web::get().to(closed))
                .route("/v1/chat/completions", web::post().to(chat))
        })
        .workers(1)
        .tcp_nodelay(true)
        .h1_allow_half_closed(false)
        .disable_signals()
        .bind(format!("127.0.0.1:{}", std::env::var("BENCH_PORT").as_deref().unwrap_or("0")))
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
    let frames = futures_util::stream::unfold((0, Unended), move |(sent, unended)| async move {
        if sent > tokens {
            std::mem::forget(unended);
            return None;
        }
        if !pace.is_zero() {
            tokio::time::sleep_until(start + pace * u32::try_from(sent).unwrap()).await;
        }
        let frame = if sent == tokens { END } else { TOKEN };
        Some((Ok::<_, actix_web::Error>(Bytes::from_static(frame.as_bytes())), (sent + 1, unended)))
    });
    HttpResponse::Ok().content_type("text/event-stream").streaming(frames)
}

/// A stream that has not ended: one that is dropped was closed by its reader.
struct Unended;

impl Drop for Unended {
    fn drop(&mut self) {
        LAST_CLOSED.store(now().as_nanos() as u64, Ordering::SeqCst);
        CLOSED.fetch_add(1, Ordering::SeqCst);
    }
}
