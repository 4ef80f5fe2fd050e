//! The hub's web console in a real browser, against a real hub and a real publisher.

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::browser::Browser;
use testkit::http::Http;
use testkit::prefix::PrefixProxy;
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

impl Scene {
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
    page.shows(".chat > .note", "tokens a second").await;

    // The page of an LLM shows its last task and a chart.
    page.js("location.hash = '#/llm/slow'").await;
    page.until("document.querySelectorAll('svg rect').length > 0").await;
    page.shows("[aria-labelledby=recent] tbody", "200").await;
    page.shows(".hint", "<b id=bold>bold</b>").await;
    assert_eq!(page.js("document.querySelector('#bold')").await, Value::Null);

    page.click("#sign-out").await;
    page.until("document.querySelector('.sign-in') && document.querySelector('#bar').hidden").await;
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

#[actix_rt::test]
async fn the_live_view_follows_a_publisher_that_leaves() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.shows("table", "active").await;
    scene.publisher.signal(nix::sys::signal::Signal::SIGTERM);
    page.until("[...document.querySelectorAll('.pill')].filter((pill) => pill.innerText === 'inactive').length === 2").await;
    page.shows("#news", "is inactive").await;
    scene.hub.signal(nix::sys::signal::Signal::SIGTERM);
    page.shows("#link", "Reconnecting").await;
    scene.reports_no_errors(&["ERR_", "503"]).await;
}

/// Users and LLMs with the names of JavaScript properties are shown like others.
#[actix_rt::test]
async fn the_console_shows_llms_named_like_javascript_properties() {
    let mock = json!([{ "name": "echo", "type": "mock", "publish": true }]);
    let Some(scene) = scene_of(1280, &[], &mock).await else { return };
    let api = Http::new(&scene.url, ADMIN);
    for (session, llm) in
        [("__proto__", "constructor"), ("toString", "valueof"), ("hasOwnProperty", "tostring")]
    {
        let provider = json!({ "name": llm, "type": "openai", "model": "m", "initialStatus": "active" });
        let body = json!({ "providerSessionId": session, "providers": [provider] });
        let answer = api.post("/api/v1/llms/_provider-register", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    for text in ["__proto__", "toString", "hasOwnProperty"] {
        page.shows("[aria-labelledby=section-publishers]", text).await;
    }
    page.shows("[aria-labelledby=section-llms]", "constructor").await;
    page.js("location.hash = '#/llm/constructor'").await;
    page.shows(".heading", "active").await;
    // An unknown name is not found among the properties that JavaScript objects inherit.
    page.js("location.hash = '#/llm/__proto__'").await;
    page.shows("[role=alert]", "There is no such LLM").await;
    for name in ["__proto__", "constructor", "toString"] {
        page.js(&format!("location.hash = '#/{name}/x'")).await;
        page.shows("[aria-labelledby=section-publishers]", "hasOwnProperty").await;
    }
    scene.reports_no_errors(&["/api/v1/llms/__proto__"]).await;
}

/// Behind a proxy that serves the hub below a path, every link and request of the page stays below that path.
#[actix_rt::test]
async fn the_console_works_below_a_path_of_a_proxy() {
    let mock = json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public" }]);
    let public = "https://models.example.org/deep/er";
    let Some(scene) = scene_of(1280, &["--public-url", public], &mock).await else { return };
    let proxy = PrefixProxy::start("/deep/er", &scene.url);
    let page = &scene.browser;
    page.go(&format!("{}/deep/er/", proxy.url())).await;
    scene.sign_in(ADMIN).await;
    page.shows("#link", "Live").await;
    page.shows("table", "echo").await;
    page.until("[...document.images].every((image) => image.complete && image.naturalWidth > 0)").await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.options.length === 1").await;
    page.type_into("#message", "below a path\u{E007}").await;
    page.shows(".assistant:not([aria-busy]) .said", "below a path").await;
    page.click("a[data-page=tokens]").await;
    page.type_into("#user-name", "eve").await;
    page.click("[aria-labelledby=new] button[type=submit]").await;
    page.shows(".fresh", &format!("virtual-llm login {public}")).await;
    page.js("location.hash = '#/llm/echo'").await;
    page.shows("[aria-labelledby=recent] tbody", "200").await;
    page.js("location.reload()").await;
    page.shows("#link", "Live").await;
    assert_eq!(proxy.outside_prefix(), Vec::<String>::new());
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn the_chat_shows_reasoning_refusals_tool_calls_and_why_an_answer_is_empty() {
    let backend = FakeBackend::start();
    let provider = json!([{ "name": "odd", "type": "openai", "model": "fake-model", "url": backend.url(),
        "publish": true, "visibility": "public" }]);
    let Some(scene) = scene_of(1280, &[], &provider).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.options.length === 1").await;
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
        page.shows(&last, text).await;
    }
    assert_eq!(page.js("document.querySelectorAll('.log b').length").await, 0);
    // The conversation is still shown after a visit to another page.
    page.click("a[data-page=overview]").await;
    page.click("a[data-page=chat]").await;
    page.shows(".log .thought", "well, <b>").await;
    page.shows(".log .calls:not(:empty)", "find({\"a\":2})").await;
    scene.reports_no_errors(&[]).await;
}
