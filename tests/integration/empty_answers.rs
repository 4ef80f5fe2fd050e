//! Output of `chat-llm` for answers that are not plain text, and its message for empty answers.

use serde_json::{Value, json};
use testkit::process::Outcome;
use testkit::team::Team;
use testkit::terminal::Terminal;

/// Runs `chat-llm` twice on a backend with this answer: streamed and whole.
async fn answers(team: &Team, choices: Value, message: Value) -> [Outcome; 2] {
    team.backend.script(|script| script.choices = Some(choices.as_array().unwrap().clone()));
    let streamed = team.home.run(&["chat-llm", "local", "-m", "hi"]).await;
    team.backend.script(|script| script.choices = Some(vec![message.clone()]));
    let whole = team.home.run(&["chat-llm", "local", "-m", "hi", "--no-stream"]).await;
    [streamed, whole]
}

/// A choice of a streamed chunk.
fn delta(delta: impl Into<Value>, finish: impl Into<Value>) -> Value {
    let (delta, finish): (Value, Value) = (delta.into(), finish.into());
    json!({ "index": 0, "delta": delta, "finish_reason": finish })
}

/// A choice of a whole answer.
fn message(message: impl Into<Value>, finish: &str) -> Value {
    let message: Value = message.into();
    json!({ "index": 0, "message": message, "finish_reason": finish })
}

#[actix_rt::test]
async fn a_pipe_gets_only_the_answer_and_stderr_explains_a_missing_one() {
    let team = Team::start().await;
    let thinks = || delta(json!({ "reasoning_content": "hm, let me see" }), Value::Null);
    for (what, choices, whole, stdout, code, word) in [
        (
            "reasoning and text",
            json!([thinks(), delta(json!({ "content": "42" }), Value::Null), delta(json!({}), "stop")]),
            message(
                json!({ "role": "assistant", "reasoning": "hm, let me see", "content": [{ "type": "text", "text": "42" }] }),
                "stop",
            ),
            "42\n",
            0,
            "",
        ),
        (
            "reasoning alone, cut off",
            json!([thinks(), delta(json!({}), "length")]),
            message(json!({ "role": "assistant", "reasoning_content": "hm", "content": "" }), "length"),
            "",
            1,
            "while the model was thinking (finish_reason length)",
        ),
        (
            "filtered",
            json!([delta(json!({}), "content_filter")]),
            message(json!({ "role": "assistant", "content": null }), "content_filter"),
            "",
            1,
            "content filter",
        ),
        (
            "a refusal",
            json!([
                delta(json!({ "refusal": "I'd rather " }), Value::Null),
                delta(json!({ "refusal": "not." }), "stop")
            ]),
            message(json!({ "role": "assistant", "content": null, "refusal": "I'd rather not." }), "stop"),
            "I'd rather not.\n",
            0,
            "the model refused",
        ),
        (
            "a tool call",
            json!([
                delta(
                    json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function", "function": { "name": "look_up", "arguments": "" } }] }),
                    Value::Null
                ),
                delta(
                    json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"city\":" } }] }),
                    Value::Null
                ),
                delta(
                    json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "\"Oslo\"}" } }] }),
                    "tool_calls"
                ),
            ]),
            message(
                json!({ "role": "assistant", "content": null, "tool_calls": [{ "id": "c1", "type": "function", "function": { "name": "look_up", "arguments": "{\"city\":\"Oslo\"}" } }] }),
                "tool_calls",
            ),
            "look_up({\"city\":\"Oslo\"})\n",
            0,
            "calls a tool instead of answering",
        ),
        (
            "nothing",
            json!([delta(json!({ "role": "assistant", "content": "" }), "stop")]),
            message(json!({ "role": "assistant", "content": "" }), "stop"),
            "",
            1,
            "no answer: the model said nothing (finish_reason stop)",
        ),
    ] {
        for outcome in answers(&team, choices, whole).await {
            assert_eq!((outcome.code(), outcome.stdout.as_str()), (code, stdout), "{what}: {outcome:?}");
            assert!(
                outcome.stderr.contains(word) && !outcome.stderr.contains("let me see"),
                "{what}: {outcome:?}"
            );
        }
    }
}

#[actix_rt::test]
async fn a_terminal_shows_reasoning_dimmed_before_the_answer() {
    let team = Team::start().await;
    let choices = vec![
        delta(json!({ "reasoning": "first this, " }), Value::Null),
        delta(json!({ "reasoning": "then that" }), Value::Null),
        delta(json!({ "content": "so be it" }), "stop"),
    ];
    team.backend.script(|script| script.choices = Some(choices));
    let terminal = Terminal::start(&team.home, &["chat-llm", "local", "-m", "hi"], 80);
    terminal.shows("so be it").await;
    let raw = terminal.raw();
    assert!(raw.contains("\u{1b}[2mfirst this, \u{1b}[0m"), "{raw:?}");
    let (status, text) = terminal.end().await;
    assert!(status.success() && text.trim_end().ends_with("first this, then that\n\nso be it"), "{text:?}");
    let mut plain = team.home.command(&["chat-llm", "local", "-m", "hi"]);
    let plain = Terminal::start_with(plain.env("NO_COLOR", "1"), 80);
    plain.shows("(thinking) first this, then that\n\n(answer) so be it").await;
    assert!(!plain.raw().contains("\u{1b}[2m"));
}
