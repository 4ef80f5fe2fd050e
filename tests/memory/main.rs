//! What reading a large body takes: so many times its size, whatever is in it.
//!
//! Counted is the most that a process has had in memory (`VmHWM` of `/proc/self/status`), which a write to
//! `/proc/self/clear_refs` sets back. It is a process of its own, whose allocator gives back at once what is freed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
#![allow(clippy::cast_precision_loss, reason = "numbers for people")]
#![allow(clippy::print_stdout, reason = "a test that fails shows all numbers")]

use std::fs;
use std::process::Command;

use backend::events_of;
use backend::translate::{messages, responses};

use wire::openai::completion_as_chunk;
use wire::task::{Endpoint, Task};

/// Bytes of each body.
const SIZE: usize = 2 << 20;

/// Most bytes in memory for each byte of the body, beside [`ALWAYS`]. A text is said five times in the events of a response,
/// beside its compact copy. A tree has 16 and more for each byte of `[0,0,…]`.
const TIMES: usize = 10;

/// What small bodies may take besides: a response of a few bytes for each item becomes many events, up to 4 MiB of them, and
/// a tree of 100,000 values has some megabytes.
const ALWAYS: usize = 9 << 20;

fn status(key: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.trim_end_matches("kB").trim_matches([':', ' ', '\t']).parse::<usize>().unwrap() << 10
}

/// The most that `work` had in memory besides what was there before it.
fn peak(work: impl FnOnce()) -> usize {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM").saturating_sub(before)
}

/// JSON of about [`SIZE`] bytes made of `piece`, as a value.
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

/// A way to read a body, and where in it a value may be.
type Reader = (&'static str, &'static [&'static str], fn(String));

const READERS: &[Reader] = &[
    ("a response in events", &["x", "id", "output"], |body| drop(events_of(Endpoint::Responses, &body))),
    ("a message in events", &["x", "content", "stop_reason"], |body| {
        drop(events_of(Endpoint::Messages, &body));
    }),
    ("a completion as a chunk", &["x", "choices"], |body| drop(completion_as_chunk(&body))),
    ("a response by chat", &["x", "input", "tools"], |body| drop(responses::to_chat(body.as_bytes()))),
    ("a message by chat", &["x", "messages", "tools"], |body| drop(messages::to_chat(body.as_bytes()))),
    ("a task", &["x", "headers", "request"], |body| drop(Task::parse(&body))),
];

/// Says that this process is the one that reads.
const READS: &str = "VIRTUAL_LLM_TEST_READS";

/// A23: none of them becomes a tree that is many times as large.
#[test]
fn whatever_is_in_a_large_body_reading_it_takes_a_few_times_its_size() {
    if std::env::var_os(READS).is_some() {
        return read_all();
    }
    let name = "whatever_is_in_a_large_body_reading_it_takes_a_few_times_its_size";
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
