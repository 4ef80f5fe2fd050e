//! What a person wrote in the chat is not lost: by another tab, another page, another conversation, a reload.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;

use super::{ADMIN, Scene, chat_of, scene_of};

/// Has the backend write an answer of `tokens` words, one each 5 ms.
fn slow(backend: &FakeBackend, tokens: usize) {
    backend.script(|script| {
        script.tokens = tokens;
        script.pace = Duration::from_millis(5);
    });
}

impl Scene {
    /// The questions of the open conversation.
    async fn questions(&self) -> Value {
        self.browser
            .js("[...document.querySelectorAll('.log > .user .said')].map((said) => said.innerText)")
            .await
    }

    /// Waits until so many conversations are listed.
    async fn lists(&self, conversations: usize) {
        self.browser
            .until(&format!("document.querySelectorAll('.talks li').length === {conversations}"))
            .await;
    }
}

#[actix_rt::test]
async fn two_tabs_that_go_on_with_one_conversation_are_both_kept() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("common").await;
    let address = page.js("location.href").await;
    let first = page.tab().await;
    page.open_tab().await;
    page.go(address.as_str().unwrap()).await;
    scene.sign_in(ADMIN).await;
    page.shows(".log > .user .said", "common").await;
    scene.ask("of the second tab").await;
    page.go_to(&first).await;
    scene.ask("of the first tab").await;
    scene.lists(2).await;
    page.js("location.reload()").await;
    page.shows(".log > :last-child .said", "t0").await;
    assert_eq!(scene.questions().await, json!(["common", "of the first tab"]));
    scene.lists(2).await;
    page.click(".talks li:not(.current) a").await;
    page.until("[...document.querySelectorAll('.log > .user .said')].some((said) => said.innerText === 'of the second tab')").await;
    assert_eq!(scene.questions().await, json!(["common", "of the second tab"]));
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_repeated_question_goes_to_no_other_conversation() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    slow(&backend, 100_000);
    page.type_into("#message", "one\u{E007}").await;
    page.shows(".assistant[aria-busy] .said", "t1").await;
    page.click("[aria-label='Edit the question']").await;
    // Before the answer has stopped, another conversation is opened.
    page.js("(document.querySelector('.editor [type=submit]').click(), document.querySelector('.new-talk').click(), 0)").await;
    scene.lists(1).await;
    backend.script(|script| script.tokens = 2);
    scene.ask("two").await;
    assert_eq!(scene.questions().await, json!(["two"]));
    scene.lists(2).await;
    page.click(".talks li:not(.current) a").await;
    page.shows(".log > :last-child .trouble", "Stopped").await;
    assert_eq!(scene.questions().await, json!(["one"]));
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn only_the_last_answer_can_be_asked_for_again() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    scene.ask("one").await;
    scene.ask("two").await;
    let shown = "[...document.querySelectorAll('.again')].map((button) => button.checkVisibility())";
    assert_eq!(scene.browser.js(shown).await, json!([false, true]));
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_conversation_that_runs_in_the_background_keeps_its_new_title() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    slow(&backend, 100_000);
    page.type_into("#message", "long\u{E007}").await;
    page.shows(".assistant[aria-busy] .said", "t1").await;
    page.click(".new-talk").await;
    page.click(".talks .menu summary").await;
    page.click(".talks .choices button:first-child").await;
    page.type_into(".talks input", "renamed\u{E007}").await;
    page.shows(".talks", "renamed").await;
    page.click(".talks a").await;
    page.shows(".assistant[aria-busy] .said", "t1").await;
    page.type_into("#message", "\u{E00C}").await;
    page.shows(".assistant:not([aria-busy]) .trouble", "Stopped").await;
    page.js("location.reload()").await;
    page.shows(".talks", "renamed").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_draft_outlasts_a_look_at_another_page_and_another_conversation() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.type_into("#message", "a first").await;
    page.click("a[data-page=overview]").await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#message')?.value === 'a first'").await;
    page.type_into("#message", " question\u{E007}").await;
    page.shows(".log > :last-child:not([aria-busy]) .said", "t0").await;
    page.until("document.querySelector('#message').value === ''").await;
    page.type_into("#message", "a second").await;
    page.click(".new-talk").await;
    page.until("document.querySelector('#message').value === ''").await;
    page.click(".talks a").await;
    page.until("document.querySelector('#message').value === 'a second'").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn the_open_conversation_is_in_the_address() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("one").await;
    page.click("a[data-page=overview]").await;
    page.click("a[data-page=chat]").await;
    page.until("location.hash.startsWith('#/talk/')").await;
    page.js("location.reload()").await;
    page.shows(".log > .user .said", "one").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn of_too_many_images_the_first_are_attached() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.until("[...document.querySelectorAll('.ask button')].some((button) => !button.hidden && button.innerText === 'Attach image')").await;
    page.js(
        "(() => { const canvas = document.createElement('canvas'); \
         canvas.toBlob((blob) => { const data = new DataTransfer(); \
         for (let n = 0; n < 5; n += 1) data.items.add(new File([blob], `${n}.png`, { type: 'image/png' })); \
         document.querySelector('.ask').dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); }); })()",
    )
    .await;
    page.shows(".ask .status", "takes 4 images").await;
    page.until("document.querySelectorAll('.ask canvas').length === 4").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_new_conversation_keeps_the_model() {
    let mock = |name: &str| json!({ "name": name, "type": "mock", "publish": true, "tokensPerSecond": 1000 });
    let Some(scene) = scene_of(1280, &[], &json!([mock("one"), mock("two")])).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.value === 'one'").await;
    page.until("document.activeElement.id === (matchMedia('(hover: hover)').matches ? 'message' : 'main')")
        .await;
    page.js("(model.value = 'two', model.dispatchEvent(new Event('change')))").await;
    scene.ask("hi").await;
    page.click(".new-talk").await;
    page.until("!document.querySelector('.log > .assistant')").await;
    assert_eq!(page.js("document.querySelector('#model').value").await, "two");
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_parameter_out_of_its_range_is_marked_and_not_sent() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    page.click(".settings summary").await;
    page.type_into("#set-temperature", "1\t").await;
    page.type_into("#set-temperature", "7\t").await;
    page.until("document.querySelector('#set-temperature').getAttribute('aria-invalid') === 'true'").await;
    page.shows(".settings [role=alert]", "Temperature: not sent, since it has to be from 0 to 2").await;
    scene.ask("one").await;
    assert_eq!(backend.requests().pop().unwrap().get("temperature"), None);
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_network_that_fails_once_does_not_sign_out() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("one").await;
    page.block(&["*/api/v1/events"]).await;
    page.js("location.reload()").await;
    page.shows(".sign-in .trouble", "cannot be reached").await;
    page.block(&[]).await;
    page.click(".sign-in button").await;
    page.shows(".log > .user .said", "one").await;
    scene.reports_no_errors(&["events"]).await;
}
