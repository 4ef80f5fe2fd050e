//! Signing in by a link with a code that works once.

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::process::Home;

use super::{ADMIN, Scene, scene_of};

async fn scene(width: u32) -> Option<Scene> {
    let mock = json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public" }]);
    scene_of(width, &[], &mock).await
}

/// The link that the command line prints for a new token of `user`.
async fn link_for(scene: &Scene, user: &str) -> String {
    let admin = Home::new();
    admin.credentials(&scene.url, ADMIN);
    let printed = admin.run(&["token", "create", "--user", user, "--link"]).await;
    assert_eq!(printed.code(), 0, "{printed:?}");
    printed.stdout.trim().to_owned()
}

#[actix_rt::test]
async fn a_link_signs_its_user_in_once_and_leaves_no_code_in_the_address() {
    let Some(scene) = scene(390).await else { return };
    let page = &scene.browser;
    let link = link_for(&scene, "zoe").await;
    assert!(link.starts_with(&format!("{}/#/sign-in/vlc_", scene.url)), "{link}");
    page.go("about:blank").await;
    page.go(&link).await;
    page.shows(".sign-in", "works once").await;
    assert_eq!(page.js("location.href").await, format!("{}/#/", scene.url));
    let state = || async {
        let tokens = Http::new(&scene.url, ADMIN).get("/api/v1/tokens").await.body;
        tokens.contains("signInUntil")
    };
    assert!(state().await, "the code is not used before a click");
    page.click(".sign-in button").await;
    page.shows(".sign-in", "signed in as zoe").await;
    let token = page.text(".secret").await;
    assert!(token.starts_with("vlt_"), "{token}");
    assert!(!state().await);
    let wide = page.js("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(wide <= 390, "{wide} pixels on a phone of 390");
    page.click(".sign-in > button").await;
    page.shows("#user", "zoe").await;
    page.shows("table", "echo").await;
    let me = Http::new(&scene.url, &token).get("/api/v1/whoami").await.json();
    assert_eq!(me["user"], "zoe");
    page.js("location.reload()").await;
    page.shows("#user", "zoe").await;

    // A second time it is refused, and the tab stays signed in.
    page.js(&format!("location.href = {}", json!(link))).await;
    page.click(".sign-in button").await;
    page.shows(".sign-in .trouble", "ask for another one").await;
    page.click(".sign-in > button").await;
    page.shows("#user", "zoe").await;
    scene.reports_no_errors(&["401"]).await;
}

#[actix_rt::test]
async fn an_admin_makes_a_link_on_the_page_of_tokens() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=tokens]").await;
    page.type_into("#user-name", "bob").await;
    page.click("[aria-labelledby=new] button[value=link]").await;
    page.shows(".fresh", "A link for bob").await;
    let link = page.text(".secret").await;
    page.js(&format!("location.href = {}", json!(link))).await;
    page.shows(".sign-in", "takes the place").await;
    page.click(".sign-in button").await;
    page.shows(".sign-in", "signed in as bob").await;
    page.click(".sign-in > button").await;
    page.shows("#user", "bob").await;
    assert_eq!(page.js("document.querySelector('a[data-page=tokens]').hidden").await, Value::Bool(true));
    scene.reports_no_errors(&[]).await;
}
