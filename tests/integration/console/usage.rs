//! The page that shows who used how much.

use serde_json::json;
use testkit::http::Http;

use super::{ADMIN, scene_of};

/// The usage page: an admin sees all users and chooses what calls are added up by, a member sees its own calls.
#[actix_rt::test]
async fn the_usage_page_shows_all_calls_to_an_admin_and_own_ones_to_a_member() {
    let mock =
        json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public", "tokens": 5 }]);
    let Some(scene) = scene_of(390, &[], &mock).await else { return };
    let admin = Http::new(&scene.url, ADMIN);
    let bob = admin.post("/api/v1/tokens", &json!({ "user": "bob" })).await.json();
    let secret = bob["token"].as_str().unwrap();
    let call = json!({ "model": "echo", "messages": [{ "role": "user", "content": "hi" }] });
    for http in [&admin, &Http::new(&scene.url, secret)] {
        assert_eq!(http.post("/v1/chat/completions", &call).await.status, 200);
    }
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=usage]").await;
    let table = "[aria-labelledby=usage-table] tbody";
    page.shows(table, "admin").await;
    page.shows(table, "bob").await;
    page.shows(table, "Total").await;
    page.until("document.querySelectorAll('#usage-chart rect.bar').length === 7").await;
    page.until(
        "document.querySelector('#usage-chart svg').getAttribute('aria-label').includes('in 2 calls')",
    )
    .await;
    page.until("document.querySelectorAll('#usage-chart .scale span').length === 3").await;
    let wide = page.js("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(wide <= 390, "{wide} pixels on a phone of 390");
    // By keyboard: each arrow down chooses the next one.
    page.type_into("#usage-by", "\u{E015}").await;
    page.shows(table, "echo").await;
    page.type_into("#usage-by", "\u{E015}").await;
    page.shows(table, bob["id"].as_str().unwrap()).await;
    page.type_into("#usage-days", "\u{E015}\u{E015}").await;
    page.until("document.querySelectorAll('#usage-chart rect.bar').length === 90").await;
    page.click("#sign-out").await;

    scene.sign_in(secret).await;
    page.shows("#user", "bob").await;
    page.click("a[data-page=usage]").await;
    page.shows("#usage-table", "Your calls").await;
    page.shows(table, "echo").await;
    page.until(
        "document.querySelector('#usage-chart svg').getAttribute('aria-label').includes('in 1 calls')",
    )
    .await;
    assert_eq!(
        page.js("[...document.querySelector('#usage-by').options].map((option) => option.value).join()")
            .await,
        "user,llm,token,day"
    );
    // Alice owns the LLM, and sees who used it.
    page.click("#sign-out").await;
    let alice = admin.post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    scene.sign_in(alice["token"].as_str().unwrap()).await;
    page.shows("#user", "alice").await;
    page.click("a[data-page=usage]").await;
    page.type_into("#usage-whose", "\u{E015}").await;
    page.shows("#usage-table", "Calls to your LLMs").await;
    page.shows(table, "echo").await;
    // Not by their tokens.
    page.type_into("#usage-by", "\u{E015}").await;
    page.until("document.querySelector('#usage-by').value === 'user'").await;
    page.shows(table, "bob").await;
    scene.reports_no_errors(&[]).await;
}
