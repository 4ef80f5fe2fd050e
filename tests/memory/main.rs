//! Memory for reading a large body: a bounded multiple of its size, whatever the body contains.
//!
//! The test measures the peak resident memory of a process (`VmHWM` in `/proc/self/status`), which a write to
//! `/proc/self/clear_refs` resets. The reader is a child process whose allocator returns freed memory at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
#![allow(clippy::cast_precision_loss, reason = "numbers for people")]
#![allow(clippy::print_stdout, reason = "a test that fails shows all numbers")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use std::{fs, thread};

use backend::http::Client;
use backend::translate::{ChatRequest, Context, InvalidRequest, messages, responses};
use backend::{
    AnswerBudget, AnthropicBackend, Backend, BackendRequest, HttpBackend, OpenAiBackend, Reply, Secret,
    stream_events,
};
use futures_util::StreamExt;
use wire::openai::{completion_as_chunk, error_message};
use wire::task::{Endpoint, Task};

/// Size of each body in bytes.
const SIZE: usize = 2 << 20;

/// Limit for the bytes of memory for each byte of the body, in addition to [`ALWAYS`]. The events of a response repeat a text
/// five times, beside its compact copy. A parsed tree would take 16 bytes and more for each byte of `[0,0,…]`.
const TIMES: usize = 10;

/// Bytes that are allowed in addition, for small bodies: a response of short items becomes up to 4 MiB of events, and a tree
/// of 100,000 values takes some megabytes.
const ALWAYS: usize = 9 << 20;

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_end_matches("kB").trim_matches([':', ' ', '\t']).parse::<usize>().unwrap() << 10
}

/// Peak memory during `work`, above the memory before it, in bytes.
fn peak(work: impl FnOnce()) -> usize {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM").saturating_sub(before)
}

/// A JSON array of about [`SIZE`] bytes that repeats `piece`.
fn values() -> Vec<(&'static str, String)> {
    let list = |piece: &str| format!("[{}{piece}]", format!("{piece},").repeat(SIZE / (piece.len() + 1)));
    let members = |member: &str| {
        let members = format!("{member},").repeat(SIZE / (member.len() + 1));
        format!("{{{members}{member}}}")
    };
    vec![
        ("zeros", list("0")),
        ("lists", list("[]")),
        ("objects", list("{}")),
        ("texts", list(r#""""#)),
        ("deep lists", list(&format!("{}{}", "[".repeat(100), "]".repeat(100)))),
        ("members", members(r#""a":0"#)),
        ("calls", list(r#"{"type":"function_call","arguments":"","id":"a"}"#)),
        ("messages", list(r#"{"role":"user","content":[{"type":"output_text","text":"a"}]}"#)),
        ("blocks", list(r#"{"type":"text","text":"a"}"#)),
        ("choices", list(r#"{"message":{"tool_calls":[{}]}}"#)),
        ("a text", format!(r#""{}""#, "x".repeat(SIZE))),
        ("escapes", format!(r#""{}""#, r#"\""#.repeat(SIZE / 2))),
        (
            "one item",
            format!(
                r#"[{{"type":"message","content":[{{"type":"output_text","text":"{}"}}]}}]"#,
                "x".repeat(SIZE)
            ),
        ),
        (
            "one item of zeros",
            format!(r#"[{{"type":"message","id":{},"content":[{{}},{{}},{{}},{{}}]}}]"#, list("0")),
        ),
        ("one call", format!(r#"[{{"type":"tool_use","input":{{"a":"{}"}}}}]"#, r#"\""#.repeat(SIZE / 2))),
    ]
}

/// A chat request.
const CHAT: &str = r#"{"model":"m","messages":[]}"#;

/// The context of a request that the translation of its answer needs.
fn asked(to_chat: fn(&[u8]) -> Result<ChatRequest, InvalidRequest>) -> Context {
    let request = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a"}],"input":"a"}"#;
    to_chat(request.as_bytes()).unwrap().context("id", 0)
}

/// A prepared HTTP answer: a whole body, or a stream of one event.
struct Said {
    head: &'static str,
    body: String,
    tail: &'static str,
    streaming: bool,
}

fn whole(body: String) -> Said {
    Said { head: "application/json\r\nconnection: close\r\n\r\n", body, tail: "", streaming: false }
}

fn event(body: String) -> Said {
    let head = "text/event-stream\r\nconnection: close\r\n\r\ndata: ";
    Said { head, body, tail: "\n\ndata: [DONE]\n\n", streaming: true }
}

/// Reads the prepared answer to its end through a backend of `kind`.
fn answer(kind: Kind, endpoint: Endpoint, request: String, said: Said) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Secret::new(format!("http://{}/v1", listener.local_addr().unwrap()));
    let streaming = said.streaming;
    let server = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&socket);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        io::copy(&mut reader.take(length), &mut io::sink()).unwrap();
        for part in ["HTTP/1.1 200 OK\r\ncontent-type: ", said.head, &said.body, said.tail] {
            // The client may close the connection before the end.
            if (&socket).write_all(part.as_bytes()).is_err() {
                break;
            }
        }
    });
    actix_rt::System::new().block_on(async {
        let backend = kind(&HttpBackend { url, api_key: Some(Secret::new("sk-proj-Ab12cd34ef56")) });
        let (body, user, headers, budget) =
            (request.into(), String::new(), Vec::new(), AnswerBudget::default());
        let reply = backend.infer(BackendRequest { endpoint, streaming, body, user, headers, budget }).await;
        if let Ok(Reply::Stream(mut events)) = reply {
            while events.next().await.is_some() {}
        }
    });
    server.join().unwrap();
}

/// The large value of `body` thrice as the system text of a request, behind Claude Code's attribution line.
fn attributed(body: &str) -> String {
    let (_, value) = body.split_once(r#""system":"#).unwrap();
    let value = value.strip_suffix('}').unwrap();
    let value = value.strip_prefix('[').and_then(|list| list.strip_suffix(']')).unwrap_or(value);
    let line = r#"{"text":"x-anthropic-billing-header: a"}"#;
    format!(r#"{{"model":"m","system":[{line},{value},{value},{value}]}}"#)
}

/// Constructor of a backend.
type Kind = fn(&HttpBackend) -> Box<dyn Backend>;

fn openai(http: &HttpBackend) -> Box<dyn Backend> {
    Box::new(OpenAiBackend::new(Client::new(None), http, Duration::from_mins(1), None))
}

fn anthropic(http: &HttpBackend) -> Box<dyn Backend> {
    Box::new(AnthropicBackend::new(Client::new(None), http, Duration::from_mins(1), None))
}

/// A function that reads a body: its name, the keys under which the large value is placed, and the function.
type Reader = (&'static str, &'static [&'static str], fn(String));

const READERS: &[Reader] = &[
    ("a response in events", &["x", "id", "output"], |body| drop(stream_events(Endpoint::Responses, &body))),
    ("a message in events", &["x", "content", "stop_reason"], |body| {
        drop(stream_events(Endpoint::Messages, &body));
    }),
    ("a completion as a chunk", &["x", "choices"], |body| drop(completion_as_chunk(&body))),
    ("a response by chat", &["x", "input", "tools"], |body| drop(responses::to_chat(body.as_bytes()))),
    ("a message by chat", &["x", "messages", "tools"], |body| drop(messages::to_chat(body.as_bytes()))),
    ("a chat answer as a message", &["x", "choices"], |body| {
        drop(messages::from_chat(&body, &asked(messages::to_chat)));
    }),
    ("a chat answer as a response", &["x", "choices"], |body| {
        drop(responses::from_chat(&body, &asked(responses::to_chat)));
    }),
    ("a chunk as a message", &["x", "choices"], |body| {
        drop(messages::stream_translator(asked(messages::to_chat)).push(&body));
    }),
    ("a chunk as a response", &["x", "choices"], |body| {
        drop(responses::stream_translator(asked(responses::to_chat)).push(&body));
    }),
    ("the words of an error", &["x", "error", "detail"], |body| drop(error_message(&body))),
    ("what is asked for", &["x", "prompt"], |body| {
        answer(openai, Endpoint::Completions, body, event("{}".to_owned()));
    }),
    ("an answer", &["x", "choices", "error"], |body| {
        answer(openai, Endpoint::Completions, "{}".to_owned(), whole(body));
    }),
    ("an event", &["x", "choices", "error"], |body| {
        answer(openai, Endpoint::ChatCompletions, "{}".to_owned(), event(body));
    }),
    ("a failed response", &["x", "error", "response"], |body| {
        answer(openai, Endpoint::Responses, "{}".to_owned(), event(body));
    }),
    ("a message as a chat answer", &["x", "content", "usage"], |body| {
        answer(anthropic, Endpoint::ChatCompletions, CHAT.to_owned(), whole(body));
    }),
    ("an event of a message", &["x", "message", "usage"], |body| {
        answer(anthropic, Endpoint::ChatCompletions, CHAT.to_owned(), event(body));
    }),
    ("a system text with an attribution line", &["system"], |body| {
        answer(openai, Endpoint::Messages, attributed(&body), whole("{}".to_owned()));
    }),
    ("a task", &["x", "headers", "request"], |body| drop(Task::parse(&body))),
];

/// Variable that makes this process the child that reads.
const READS: &str = "VIRTUAL_LLM_TEST_READS";

/// A23: no body becomes a tree that is many times as large.
#[test]
fn reading_a_large_body_takes_a_bounded_multiple_of_its_size() {
    if std::env::var_os(READS).is_some() {
        return read_all();
    }
    let name = "reading_a_large_body_takes_a_bounded_multiple_of_its_size";
    let read = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(READS, "1")
        .envs([("MALLOC_MMAP_THRESHOLD_", "65536"), ("MALLOC_TRIM_THRESHOLD_", "65536")])
        .status();
    assert!(read.unwrap().success());
}

fn read_all() {
    let mut too_much = Vec::new();
    for (shape, value) in values() {
        for (name, places, read) in READERS {
            for place in *places {
                let body = format!(r#"{{"kind":"infer","taskId":"t","llmName":"a","{place}":{value}}}"#);
                let size = body.len();
                let peak = peak(|| read(body));
                let told = format!("{name}: {shape} as {place}: {:.1} MiB", peak as f64 / 1_048_576.0);
                println!("{told}");
                if peak > TIMES * size + ALWAYS {
                    too_much.push(told);
                }
            }
        }
    }
    assert!(too_much.is_empty(), "of {SIZE} bytes: {too_much:#?}");
}
