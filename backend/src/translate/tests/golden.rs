//! Requests as Claude Code 2.1, Codex 0.171 and the Vercel AI SDK 6 sent them, shortened.

use std::path::Path;

use crate::attribution::drop_attribution;

use super::super::{ChatRequest, InvalidRequest, messages, responses};

/// Compares with the golden file beside the fixture; `BLESS=1` writes it.
fn check(name: &str, to_chat: fn(&[u8]) -> Result<ChatRequest, InvalidRequest>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translate/tests/fixtures");
    let request = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    // A backend drops the attribution line before it translates.
    let request = drop_attribution(&request).unwrap_or(request);
    let chat = to_chat(&request).unwrap();
    let pretty: serde_json::Value = serde_json::from_str(&chat.body).unwrap();
    let pretty = format!("{}\n", serde_json::to_string_pretty(&pretty).unwrap());
    let golden = folder.join(format!("{name}.chat.json"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&golden, &pretty).unwrap();
    }
    assert_eq!(pretty, std::fs::read_to_string(&golden).unwrap(), "{name}");
}

#[test]
fn requests_of_claude_code_are_put_to_chat_completions() {
    check("claude_code", messages::to_chat);
    check("claude_code_title", messages::to_chat);
}

#[test]
fn requests_of_codex_are_put_to_chat_completions() {
    check("codex", responses::to_chat);
}

#[test]
fn requests_of_the_vercel_sdk_are_put_to_chat_completions() {
    check("vercel", responses::to_chat);
}
