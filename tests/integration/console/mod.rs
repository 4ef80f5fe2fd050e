//! The hub's web console in a real browser, against a real hub and a real publisher.

mod chat;
mod conversations;
mod kept;
mod limits;
mod link;
mod load;
mod markdown;
mod overview;
mod tokens;
mod usage;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::browser::Browser;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::wait::wait_for;

const ADMIN: &str = "the-admin-token-of-the-test";

/// A hub, a publisher of mock LLMs, and a browser that shows the console.
struct Scene {
    browser: Browser,
    url: String,
    hub: Process,
    publisher: Process,
    _homes: [Home; 2],
}

/// Starts a scene with two mock LLMs. Returns `None` if there is no browser.
async fn scene(width: u32) -> Option<Scene> {
    let mock = |name: &str, tokens: u32, rate: u32, visibility: &str| {
        json!({ "name": name, "type": "mock", "model": format!("model-of-{name}"), "tokens": tokens,
            "tokensPerSecond": rate, "publish": true, "visibility": visibility,
            "description": "<b id=bold>bold</b>" })
    };
    // Slow enough for the test to see the running answer, and fast enough to wait for its end.
    let providers = json!([mock("slow", 30, 20, "public"), mock("quiet", 3, 100, "private")]);
    scene_of(width, &[], &providers).await
}

/// Starts a scene with these providers and hub options. Returns `None` if there is no browser.
async fn scene_of(width: u32, options: &[&str], providers: &Value) -> Option<Scene> {
    let browser = Browser::start(width).await?;
    let (hub_home, home) = (Home::new(), Home::new());
    let usual = ["hub", "--in-memory", "--listen", "127.0.0.1:0"];
    let mut command = hub_home.command(&[&usual, options].concat());
    command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN);
    let hub = Process::new(command.spawn().unwrap());
    hub.logs("the hub listens on ").await;
    let log = hub.stderr();
    let url = log.split("the hub listens on ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();

    let api = Http::new(&url, ADMIN);
    let token: Value = {
        let answer = api.post("/api/v1/tokens", &json!({ "user": "alice" })).await;
        serde_json::from_str(&answer.body).unwrap()
    };
    home.credentials(&url, token["token"].as_str().unwrap());
    home.providers(providers);
    let publisher = home.start(&["publish"]);
    let wanted = providers.as_array().unwrap().len();
    wait_for("all LLMs are active", || async {
        let rows = api.get("/api/v1/llms").await.body;
        (rows.matches(r#""status":"active""#).count() == wanted).then_some(())
    })
    .await;
    browser.go(&url).await;
    Some(Scene { browser, url, hub, publisher, _homes: [hub_home, home] })
}

/// Starts a scene with the LLM `odd` of this backend, and shows its chat.
async fn chat_of(backend: &FakeBackend) -> Option<Scene> {
    let provider = json!([{ "name": "odd", "type": "openai", "model": "fake-model", "url": backend.url(),
        "publish": true, "visibility": "public", "capabilities": { "vision": true } }]);
    let scene = scene_of(1280, &[], &provider).await?;
    scene.sign_in(ADMIN).await;
    scene.browser.click("a[data-page=chat]").await;
    scene.browser.until("document.querySelector('#model')?.value === 'odd'").await;
    Some(scene)
}

impl Scene {
    /// Asks in the chat, and waits for the end of the answer.
    async fn ask(&self, question: &str) {
        let before = self.browser.js("document.querySelectorAll('.log > .assistant').length").await;
        self.browser.type_into("#message", &format!("{question}\u{E007}")).await;
        let after = before.as_u64().unwrap() + 1;
        let ended =
            format!("document.querySelectorAll('.log > .assistant:not([aria-busy])').length === {after}");
        self.browser.until(&ended).await;
    }

    async fn sign_in(&self, token: &str) {
        self.browser.type_into("#token", token).await;
        self.browser.click(".sign-in button").await;
    }

    /// Checks that the browser reported no error of the page, except the `expected` refusals of the hub.
    async fn reports_no_errors(&self, expected: &[&str]) {
        let complaints = self.browser.complaints().await;
        let unexpected = |line: &&String| !expected.iter().any(|known| line.contains(known));
        let unexpected: Vec<_> = complaints.iter().filter(unexpected).collect();
        assert!(unexpected.is_empty(), "{unexpected:#?}");
    }
}

#[actix_rt::test]
async fn a_user_signs_in_sees_the_llms_chats_and_signs_out() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.shows("#link", "Live").await;
    page.shows("#user", "admin").await;
    page.shows("table", "model-of-slow").await;
    page.shows("table", "quiet").await;
    page.shows("[aria-labelledby=section-publishers]", "connected").await;

    // HTML in an answer is shown as text. The mock repeats the message.
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.options.length === 2").await;
    page.type_into("#model", "slow").await;
    page.type_into("#message", "<img src=x onerror=alert(1)> <b>said</b>\u{E007}").await;
    page.until("document.querySelector('.assistant[aria-busy] .said')?.textContent.length > 10").await;
    page.until("document.querySelector('.assistant:not([aria-busy])')").await;
    let said = page.text(".assistant .said").await;
    assert!(said.contains("<img") && said.contains("<b>said</b>"), "{said}");
    assert_eq!(page.js("document.querySelectorAll('.log img, .log b').length").await, 0);
    assert_eq!(page.js("document.querySelectorAll('.trouble:not(:empty)').length").await, 0);
    page.shows(".facts-line", "tokens a second").await;

    // The page of an LLM shows its last task and a chart.
    page.js("location.hash = '#/llm/slow'").await;
    page.until("document.querySelectorAll('svg rect').length > 0").await;
    page.shows("[aria-labelledby=recent] tbody", "200").await;
    page.shows(".hint", "<b id=bold>bold</b>").await;
    assert_eq!(page.js("document.querySelector('#bold')").await, Value::Null);

    // The conversation is deleted from the browser if the user wants it, not by a careless Enter.
    page.click("#sign-out").await;
    page.until("document.activeElement.dataset.signOut === 'keep'").await;
    page.click("[data-sign-out=delete]").await;
    page.until("document.querySelector('.sign-in') && document.querySelector('#bar').hidden").await;
    let stored = "new Promise((done) => { indexedDB.open('virtual-llm/').onsuccess = ({ target }) => { \
        target.result.transaction('heads').objectStore('heads').count().onsuccess = ({ target }) => done(target.result); }; })";
    page.until(&format!("(await {stored}) === 0")).await;
    assert_eq!(page.js("sessionStorage.length + localStorage.length + document.cookie.length").await, 0);
    assert!(!page.text("body").await.contains("model-of-slow"));
    page.go(&scene.url).await;
    page.until("document.querySelector('.sign-in')").await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn a_wrong_token_is_refused_and_a_revoked_one_signs_its_user_out() {
    let Some(scene) = scene(390).await else { return };
    let page = &scene.browser;
    scene.sign_in("vlt_wrong").await;
    page.shows("#trouble", "does not know this token").await;
    assert_eq!(page.js("sessionStorage.length").await, 0, "a refused token is not kept");

    // An admin creates a token; the page shows it once.
    page.js("document.querySelector('#token').value = ''").await;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=tokens]").await;
    page.type_into("#user-name", "bob").await;
    page.click("[aria-labelledby=new] button[type=submit]").await;
    page.shows(".fresh", "shown this once").await;
    let secret = page.text(".secret").await;
    page.shows("[aria-labelledby=tokens] tbody", "bob").await;
    assert!(!page.text("[aria-labelledby=tokens] tbody").await.contains(&secret));
    let wide = page.js("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(wide <= 390, "{wide} pixels on a phone of 390");
    page.click("#sign-out").await;

    // The token's user sees only what a member may see.
    scene.sign_in(&secret).await;
    page.shows("#user", "bob").await;
    page.shows("table", "model-of-slow").await;
    assert!(
        !page.text("body").await.contains("quiet"),
        "a member does not see a private row of another user"
    );
    assert_eq!(page.js("document.querySelector('a[data-page=tokens]').hidden").await, true);

    let api = Http::new(&scene.url, ADMIN);
    let tokens: Value = serde_json::from_str(&api.get("/api/v1/tokens").await.body).unwrap();
    let bobs = tokens.as_array().unwrap().iter().find(|token| token["user"] == "bob").unwrap();
    let path = format!("/api/v1/tokens/{}", bobs["id"].as_str().unwrap());
    api.send(awc::http::Method::DELETE, &path, None).await;
    page.shows("#trouble", "no longer valid").await;
    scene.reports_no_errors(&["401"]).await;
}
