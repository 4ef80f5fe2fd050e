//! Conversations that the browser keeps.

use std::time::Duration;

use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::http::Http;

use super::{ADMIN, chat_of, scene_of};

#[actix_rt::test]
async fn a_conversation_survives_a_reload() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("the first question").await;
    page.js("location.reload()").await;
    page.shows(".log .assistant .said", "t0 t1 t2").await;
    page.shows(".talks [aria-current]", "the first question").await;
    scene.ask("and another").await;
    let request = backend.requests().pop().unwrap();
    assert_eq!(request["messages"].as_array().unwrap().len(), 3, "{request}");
    // What was there of an answer when its page was closed is kept, and said to be broken off.
    backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(5);
    });
    page.type_into("#message", "go on\u{E007}").await;
    // Written while it grows: a thousand pieces take longer than the time between two writes.
    page.until("document.querySelector('.assistant[aria-busy] .said')?.textContent.includes('t1000 ')").await;
    page.js("location.reload()").await;
    page.shows(".log > :last-child .trouble", "Broken off").await;
    page.shows(".log > :last-child .said", "t0 t1 t2").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn an_answer_goes_on_while_another_page_is_shown() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    backend.script(|script| {
        script.tokens = 400;
        script.pace = Duration::from_millis(5);
    });
    page.type_into("#message", "go on\u{E007}").await;
    page.shows(".assistant[aria-busy] .said", "t1").await;
    page.click("a[data-page=overview]").await;
    page.shows("[aria-labelledby=section-tasks]", "odd").await;
    page.click("a[data-page=chat]").await;
    page.shows(".assistant:not([aria-busy]) .said", "t399").await;
    scene.reports_no_errors(&[]).await;
}

/// On a phone the list covers the conversation: it closes at a tap on the open one, too, whose address does not change.
#[actix_rt::test]
async fn the_list_on_a_phone_closes_at_a_tap_on_the_open_conversation() {
    let mock = json!([{ "name": "echo", "type": "mock", "publish": true }]);
    let Some(scene) = scene_of(390, &[], &mock).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.value === 'echo'").await;
    scene.ask("one").await;
    page.click(".side-toggle").await;
    page.click(".talks .menu summary").await;
    page.click(".side").await;
    page.until("!document.querySelector('.menu').open").await;
    page.click(".talks a").await;
    page.until("!document.querySelector('.chat').classList.contains('unfolded')").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn conversations_are_renamed_deleted_and_apart_for_each_user() {
    let backend = FakeBackend::start();
    let Some(scene) = chat_of(&backend).await else { return };
    let page = &scene.browser;
    scene.ask("about trees").await;
    page.click(".new-talk").await;
    page.until("!document.querySelector('.log .assistant')").await;
    scene.ask("about stones").await;
    page.until("document.querySelectorAll('.talks li').length === 2").await;
    page.shows(".talks li:first-child", "about stones").await;

    page.click(".talks li:last-child .menu summary").await;
    page.click(".talks li:last-child .choices button:first-child").await;
    page.type_into(".talks input", "woods\u{E007}").await;
    page.shows(".talks", "woods").await;
    page.click(".talks li:first-child .menu summary").await;
    page.click(".talks li:first-child .choices .danger").await;
    page.click(".talks li:first-child .choices .danger").await;
    page.until("document.querySelectorAll('.talks li').length === 1").await;
    page.js("location.reload()").await;
    page.shows(".talks", "woods").await;
    assert_eq!(page.js("document.querySelectorAll('.talks li').length").await, 1);

    // Another user of this browser does not see it.
    let api = Http::new(&scene.url, ADMIN);
    let token = api.post("/api/v1/tokens", &json!({ "user": "carol" })).await.body;
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    page.click("#sign-out").await;
    page.click("[data-sign-out=keep]").await;
    scene.sign_in(token["token"].as_str().unwrap()).await;
    page.shows("#user", "carol").await;
    page.click("a[data-page=chat]").await;
    page.shows(".side", "Conversations stay in this browser").await;
    page.click("#sign-out").await;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=chat]").await;
    page.shows(".talks", "woods").await;
    scene.reports_no_errors(&[]).await;
}
