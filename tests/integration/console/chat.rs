//! The chat: what is sent, what is shown of an answer, and how it is stopped.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::wait::eventually;

use super::chat_of;

#[actix_rt::test]
async fn the_chat_shows_reasoning_refusals_tool_calls_and_why_an_answer_is_empty() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    let chunk = |delta: Value, finish: Value| json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let call = |given: &str| json!({ "tool_calls": [{ "index": 0, "function": { "name": "find", "arguments": given } }] });
    let more = || json!({ "tool_calls": [{ "index": 0, "function": { "arguments": ":2}" } }] });
    for (choices, part, text) in [
        (
            vec![
                chunk(json!({ "reasoning": "well, <b>" }), Value::Null),
                chunk(json!({ "content": "yes" }), json!("stop")),
            ],
            ".thought",
            "well, <b>",
        ),
        (vec![chunk(json!({ "refusal": "rather not" }), json!("stop"))], ".refusal", "rather not"),
        (
            vec![chunk(call("{\"a\""), Value::Null), chunk(more(), json!("tool_calls"))],
            ".calls",
            "find({\"a\":2})",
        ),
        (vec![chunk(json!({}), json!("length"))], ".note", "the limit of tokens was reached"),
        (vec![chunk(json!({}), json!("content_filter"))], ".note", "content filter"),
        (
            vec![chunk(json!({ "reasoning_content": "hm" }), json!("stop"))],
            ".note",
            "thought and said nothing",
        ),
        (
            vec![chunk(json!({ "content": [{ "type": "text", "text": "in parts" }] }), json!("stop"))],
            ".said",
            "in parts",
        ),
    ] {
        backend.script(|script| script.choices = Some(choices));
        page.type_into("#message", "go on\u{E007}").await;
        let last = format!(".log > article:last-child.assistant:not([aria-busy]) {part}");
        // Reasoning is folded, so its text is in the document and not to be seen.
        page.until(&format!(
            "document.querySelector({})?.textContent.includes({})",
            json!(last),
            json!(text)
        ))
        .await;
    }
    assert_eq!(page.js("document.querySelectorAll('.log b').length").await, 0);
    // The conversation is still shown after a visit to another page.
    page.click("a[data-page=overview]").await;
    page.click("a[data-page=chat]").await;
    page.click(".log .thinking summary").await;
    page.shows(".log .thought", "well, <b>").await;
    page.shows(".log .calls:not(:empty)", "find({\"a\":2})").await;
    scene.reports_no_errors(&[]).await;
}

/// The texts of the messages of the last request.
fn last_messages(backend: &FakeBackend) -> Vec<String> {
    let request = backend.requests().pop().unwrap();
    let messages = request["messages"].as_array().unwrap();
    let text = |message: &Value| {
        format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap_or("…"))
    };
    messages.iter().map(text).collect()
}

#[actix_rt::test]
async fn a_failed_question_is_not_sent_again() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    scene.ask("one").await;
    let refusal = json!({ "error": { "message": "out of memory" } }).to_string();
    backend.script(|script| script.refuse = Some((500, refusal)));
    scene.ask("two").await;
    scene.browser.shows(".log > :last-child .trouble", "ut of memory").await;
    backend.script(|script| script.refuse = None);
    scene.ask("three").await;
    assert_eq!(last_messages(&backend), ["user: one", "assistant: t0 t1 t2 ", "user: three"]);
    scene.reports_no_errors(&["500"]).await;
}

#[actix_rt::test]
async fn a_question_is_tried_again_and_edited() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("one").await;
    scene.ask("two").await;
    backend.script(|script| script.text = Some("anew ".to_owned()));
    page.click(".log > :last-child [aria-label='Ask for this answer again']").await;
    page.shows(".log > :last-child:not([aria-busy]) .said", "anew").await;
    assert_eq!(last_messages(&backend), ["user: one", "assistant: t0 t1 t2 ", "user: two"]);
    assert_eq!(page.js("document.querySelectorAll('.log > *').length").await, 4);
    page.click(".log > :first-child [aria-label='Edit the question']").await;
    page.type_into(".editor textarea", " and a half\u{E007}").await;
    page.shows(".log > :last-child:not([aria-busy]) .said", "anew").await;
    assert_eq!(last_messages(&backend), ["user: one and a half"]);
    assert_eq!(page.js("document.querySelectorAll('.log > *').length").await, 2);
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn escape_stops_an_answer() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(20);
    });
    page.type_into("#message", "go on\u{E007}").await;
    page.shows(".assistant[aria-busy] .said", "t1").await;
    page.type_into("#message", "\u{E00C}").await;
    page.shows(".assistant:not([aria-busy]) .trouble", "Stopped").await;
    eventually("the backend sees that its caller left", async || backend.open() == 0).await;
    backend.script(|script| script.tokens = 2);
    scene.ask("go on").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn system_prompt_and_parameters_are_those_of_the_conversation() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.click(".settings summary").await;
    page.type_into("#system", "Be brief.").await;
    page.type_into("#set-temperature", "0.5\t").await;
    page.type_into("#set-max_tokens", "77\t").await;
    scene.ask("one").await;
    let request = backend.requests().pop().unwrap();
    assert_eq!((&request["temperature"], &request["max_tokens"]), (&json!(0.5), &json!(77)));
    assert_eq!(request.get("top_p"), None, "an empty field is not sent");
    assert_eq!(last_messages(&backend), ["system: Be brief.", "user: one"]);
    page.click(".new-talk").await;
    scene.ask("two").await;
    assert_eq!(last_messages(&backend), ["user: two"]);
    assert_eq!(backend.requests().pop().unwrap().get("temperature"), None);
    scene.reports_no_errors(&[]).await;
}

/// A dropped picture is made smaller and sent as a `data:` URL, since the model's capabilities have vision.
#[actix_rt::test]
async fn an_image_is_sent_to_a_model_that_sees() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.until("[...document.querySelectorAll('.ask button')].some((button) => !button.hidden && button.innerText === 'Attach image')").await;
    page.js(
        "(() => { const canvas = document.createElement('canvas'); canvas.width = 4000; canvas.height = 10; \
         canvas.toBlob((blob) => { const data = new DataTransfer(); data.items.add(new File([blob], 'a.png', { type: 'image/png' })); \
         document.querySelector('.ask').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }); })()",
    )
    .await;
    page.until("document.querySelector('.ask canvas')?.width > 1").await;
    scene.ask("what is it").await;
    let request = backend.requests().pop().unwrap();
    let parts = &request["messages"][0]["content"];
    assert_eq!(parts[0], json!({ "type": "text", "text": "what is it" }));
    assert!(parts[1]["image_url"]["url"].as_str().unwrap().starts_with("data:image/png;base64,"), "{parts}");
    page.until("document.querySelector('.log .user canvas')?.width > 1").await;
    scene.reports_no_errors(&[]).await;
}
