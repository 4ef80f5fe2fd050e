//! Markdown in answers: what is shown of it, what never runs, and that it does not block the page.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;

use super::chat_of;
use super::load::{
    Slowdown, count_changes, frames_and_kept_blocks, no_task_was_longer_than, note_long_tasks,
};

/// The chunks of a streamed answer.
fn chunks<'a>(pieces: impl Iterator<Item = &'a str>) -> Vec<Value> {
    let chunk = |piece| json!({ "index": 0, "delta": { "content": piece }, "finish_reason": null });
    pieces.map(chunk).collect()
}

#[actix_rt::test]
async fn markdown_of_an_answer_runs_nothing_and_loads_nothing() {
    const HOSTILE: &str = "<img src=x onerror=hacked()> <script>hacked()</script>\n\n\
        [one](javascript:hacked()) [two](&#106;avascript:hacked()) <javascript:hacked()> [three](data:text/html,x)\n\n\
        ![picture](/healthz) [good](https://example.org/?a=1&b=2)\n\n\
        <iframe src=/></iframe>\n\n<a href=\"javascript:hacked()\" onclick=hacked()>four</a>\n\n\
        ```html\n<img src=y onerror=hacked()>\n```\n\n| <b onmouseover=hacked()>x |\n| - |\n| <svg onload=hacked()> |\n\n\
        [ref]: javascript:hacked()\n\n[ref]";

    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.js("(window.hacked = () => { window.was = true; }, 0)").await;
    backend.script(|script| script.choices = Some(chunks(HOSTILE.split_inclusive(' '))));
    scene.ask("go on").await;
    // The worker may still read the end of an answer that is whole.
    page.shows(".assistant .said .code", "<img src=y").await;
    page.until("document.querySelector('.assistant .said table')").await;
    page.shows(".assistant .said", "hacked()> <script>").await;
    let odd = "'.assistant .said :is(img, script, iframe, svg, object, style, b, [onclick], [onerror], [onmouseover], [style])'";
    assert_eq!(page.js(&format!("document.querySelectorAll({odd}).length")).await, 0);
    let links = page.js("[...document.querySelectorAll('.assistant .said a')].map((a) => `${a.href} ${a.target} ${a.rel}`)").await;
    assert_eq!(links, json!(["https://example.org/?a=1&b=2 _blank noopener noreferrer nofollow"]));
    let loaded = "performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('healthz')).length";
    assert_eq!(page.js(loaded).await, 0);
    page.shows(".said .code", "<img src=y").await;
    assert_eq!(page.js("window.was ?? null").await, Value::Null);
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn markdown_is_shown_as_such_and_code_is_copied() {
    const TEXT: &str = "# Title\n\nSome *soft* and **loud** words.\n\n1. one\n2. two\n   - inner\n\n```rust\nfn main() {}\n// done\n```\n\n\
        | a | b |\n| - | -: |\n| 1 | 2 |\n\n> said\n";

    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    // Cut anywhere, the pieces give the same.
    let pieces: Vec<&str> = (0..TEXT.len()).map(|at| &TEXT[at..=at]).collect();
    backend.script(|script| script.choices = Some(chunks(pieces.into_iter())));
    scene.ask("go on").await;
    for (css, text) in [
        ("h3", "Title"),
        ("em", "soft"),
        ("strong", "loud"),
        ("ol > li:nth-child(2) ul > li", "inner"),
        (".code figcaption", "rust"),
        (".code .hl-keyword", "fn"),
        (".code .hl-comment", "// done"),
        ("td.to-right", "2"),
        ("blockquote", "said"),
    ] {
        page.shows(&format!(".assistant .said {css}"), text).await;
    }
    page.js("(document.execCommand = () => { window.copied = document.activeElement.value; return true; }, \
             Object.defineProperty(navigator, 'clipboard', { value: undefined }), 0)")
        .await;
    page.click(".code button").await;
    page.until("window.copied === 'fn main() {}\\n// done'").await;
    scene.reports_no_errors(&[]).await;
}

/// 16,000 tokens at 700 a second: text, lists, tables, code, and a paragraph and a code block of thousands of tokens.
#[actix_rt::test]
async fn a_fast_long_answer_never_blocks_the_page() {
    const TOKENS: usize = 16_000;
    const RATE: u32 = 700;
    /// A task of this length, in ms, is what a reader notices.
    const LONG: f64 = 50.0;

    let mixed = "## Part\n\nSome *words* of a **paragraph** with `code`.\n\n- one\n- two\n\n```rust\nlet x = f(1);\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n";
    let text = [
        mixed.repeat(80),
        "word ".repeat(4000),
        "\n\n```python\n".to_owned(),
        "    value = f(\"x\", 1)  # note\n".repeat(600),
        "```\n\n".to_owned(),
    ]
    .concat();
    let tokens: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    let tokens: Vec<&str> = tokens.into_iter().cycle().take(TOKENS).collect();

    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    backend.script(|script| {
        script.choices = Some(chunks(tokens.iter().copied()));
        script.pace = Duration::from_secs(1) / RATE;
    });
    note_long_tasks(page).await;
    count_changes(page).await;
    let slowdown = Slowdown::start();
    page.type_into("#message", "go on\u{E007}").await;
    page.until("document.querySelector('.assistant[aria-busy] .said')?.childNodes.length > 50").await;
    // 80 times five blocks, then the long ones.
    page.until("document.querySelector('.assistant .said').childNodes.length > 200").await;
    page.until("document.querySelector('.assistant .said').childNodes.length > 400").await;
    page.until("document.querySelector('.assistant .said [aria-label=\"Code, python\"]')").await;
    page.until("document.querySelector('.assistant .said .code .chunk:nth-child(10)')").await;
    page.until("document.querySelector('.assistant:not([aria-busy])')").await;
    no_task_was_longer_than(page, LONG, slowdown).await;
    frames_and_kept_blocks(page).await;
    scene.reports_no_errors(&[]).await;
}
