//! What admins allow users and tokens, on the pages of both.

use awc::http::Method;
use serde_json::{Value, json};
use testkit::http::Http;

use super::{ADMIN, scene_of};

/// A member sees its limits and the budget of the day, an admin those of all users and tokens. On a phone, too.
#[actix_rt::test]
async fn limits_and_budgets_are_on_the_pages_of_the_member_and_of_the_admin() {
    let mock =
        json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public", "tokens": 5 }]);
    let Some(scene) = scene_of(390, &[], &mock).await else { return };
    let admin = Http::new(&scene.url, ADMIN);
    let wanted = json!({ "user": "bob", "tokensPerDay": 1000, "requestsPerMinute": 60, "models": ["echo"] });
    let bob = admin.post("/api/v1/tokens", &wanted).await.json();
    let secret = bob["token"].as_str().unwrap();
    let of_bob =
        |limits: Value| admin.send(Method::PATCH, "/api/v1/users/bob/limits", Some(limits.to_string()));
    assert_eq!(of_bob(json!({ "maxConcurrent": 2 })).await.status, 200);
    let bobs = Http::new(&scene.url, secret);
    let call = json!({ "model": "echo", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(bobs.post("/v1/chat/completions", &call).await.status, 200);
    let used = bobs.get("/api/v1/whoami").await.json()["tokenLimits"]["tokensToday"].as_u64().unwrap();
    assert!(used > 0);

    let page = &scene.browser;
    scene.sign_in(secret).await;
    page.shows("#user", "bob").await;
    page.click("a[data-page=usage]").await;
    let card = "[aria-labelledby=limits]";
    page.shows(card, "This token").await;
    page.shows(card, &format!("{used} of 1,000 tokens today")).await;
    page.shows(card, "Begins anew at 00:00 UTC, in ").await;
    page.shows(card, "60 requests a minute · only echo").await;
    page.shows(card, "All your tokens together").await;
    page.shows(card, "2 calls at a time").await;
    let bar = format!("document.querySelector('{card} progress')");
    assert_eq!(page.js(&format!("[{bar}.value, {bar}.max]")).await, json!([used, 1000]));
    let label = page.js(&format!("{bar}.getAttribute('aria-label')")).await;
    assert_eq!(label, format!("This token: {used} of 1,000 tokens today"));
    fits_a_phone(page).await;
    // The next look at the page, as any choice on it, has the numbers of then.
    assert_eq!(of_bob(json!({ "tokensPerDay": 1, "maxConcurrent": null })).await.status, 200);
    page.type_into("#usage-days", "\u{E015}").await;
    page.shows(card, &format!("{used} of 1 tokens today")).await;
    page.shows(".used-up", "Used up. Begins anew").await;
    page.click("#sign-out").await;

    scene.sign_in(ADMIN).await;
    page.click("a[data-page=usage]").await;
    page.shows("[aria-labelledby=usage-table] tbody", "bob").await;
    assert_eq!(
        page.js(&format!("document.querySelector('{card}').hidden")).await,
        true,
        "an admin without limits"
    );
    page.click("a[data-page=tokens]").await;
    page.shows("[aria-labelledby=tokens] [data-label=Limits]", "of 1,000 tokens today").await;
    page.shows("[aria-labelledby=tokens] [data-label=Limits]", "60 requests a minute · only echo").await;
    page.shows(card, "bob").await;
    page.shows(card, &format!("{used} of 1 tokens today")).await;
    fits_a_phone(page).await;
    scene.reports_no_errors(&[]).await;
}

async fn fits_a_phone(page: &testkit::browser::Browser) {
    let wide = page.js("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(wide <= 390, "{wide} pixels on a phone of 390");
}
