//! The pages of LLMs, publishers and tasks.

use serde_json::{Value, json};
use testkit::http::Http;
use testkit::prefix::PrefixProxy;

use super::load::{Slowdown, no_task_was_longer_than, note_long_tasks};
use super::{ADMIN, scene, scene_of};

#[actix_rt::test]
async fn the_live_view_follows_a_publisher_that_leaves() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.shows("table", "ready").await;
    scene.publisher.signal(nix::sys::signal::Signal::SIGTERM);
    page.until("[...document.querySelectorAll('.table-llms .pill')].filter((pill) => pill.innerText === 'away').length === 2").await;
    page.shows("#news", "is away").await;
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
    page.shows(".heading", "ready").await;
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
    // The worker, which reads Markdown, was loaded from there too.
    page.type_into("#message", "**below** it\u{E007}").await;
    page.shows(".assistant:last-child:not([aria-busy]) .said strong", "below").await;
    page.click("a[data-page=tokens]").await;
    page.type_into("#user-name", "eve").await;
    page.click("[aria-labelledby=new] button[type=submit]").await;
    page.shows(".fresh", &format!("virtual-llm login {public}")).await;
    page.js("location.hash = '#/llm/echo'").await;
    page.shows("[aria-labelledby=recent] tbody", "200").await;
    page.js("location.reload()").await;
    page.shows("#link", "Live").await;
    // A sign-in link works below the path, too.
    let made = Http::new(&scene.url, ADMIN)
        .post("/api/v1/tokens", &json!({ "user": "eve", "link": true }))
        .await
        .json();
    let code = made["signInCode"].as_str().unwrap();
    page.js(&format!("location.hash = '#/sign-in/{code}'")).await;
    page.click(".sign-in button").await;
    page.shows(".sign-in", "signed in as eve").await;
    page.click(".sign-in > button").await;
    page.shows("#user", "eve").await;
    assert_eq!(proxy.outside_prefix(), Vec::<String>::new());
    scene.reports_no_errors(&[]).await;
}

/// A member's overview has no word of what the member cannot see or do.
#[actix_rt::test]
async fn a_member_sees_its_own_first_and_nothing_of_admins() {
    let Some(scene) = scene(1280).await else { return };
    let page = &scene.browser;
    let api = Http::new(&scene.url, ADMIN);
    let token = async |user: &str| {
        let made: Value =
            serde_json::from_str(&api.post("/api/v1/tokens", &json!({ "user": user })).await.body).unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let zoe = token("zoe").await;
    let provider = json!({ "name": "zz-own", "type": "openai", "model": "m", "visibility": "public", "initialStatus": "active" });
    let own = Http::new(&scene.url, &zoe);
    let answer = own.post("/api/v1/llms/_provider-register", &json!({ "providers": [provider] })).await;
    assert_eq!(answer.status, 201, "{}", answer.body);

    scene.sign_in(&zoe).await;
    page.shows("[aria-labelledby=section-llms] tbody tr:first-child", "zz-own").await;
    page.shows("[aria-labelledby=section-llms] tbody tr:first-child [data-label=Owner]", "you").await;
    page.shows("[aria-labelledby=section-llms] tbody tr:nth-child(2) [data-label=Owner]", "alice").await;
    page.shows(".tiles", "2 of 2").await;
    page.shows("#section-publishers", "Your publishers").await;
    page.shows("#section-tasks", "Your tasks").await;
    assert_eq!(page.js("document.querySelector('[data-page=tokens]').hidden").await, true);
    page.js("location.hash = '#/llm/slow'").await;
    page.shows("#recent", "Your recent tasks").await;
    page.js("location.hash = '#/tokens'").await;
    page.shows("#section-llms", "Models").await;
    page.click("#sign-out").await;

    let amy = token("amy").await;
    scene.sign_in(&amy).await;
    page.shows("[aria-labelledby=section-llms]", "zz-own").await;
    assert_eq!(page.js("document.querySelector('[aria-labelledby=section-publishers]').hidden").await, true);
    scene.reports_no_errors(&[]).await;
}

/// With 500 LLMs the page answers a key, a click and a change within 100 ms, and a filter finds one of them.
#[actix_rt::test]
async fn the_overview_of_500_llms_answers_at_once() {
    let mock = json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public" }]);
    let Some(scene) = scene_of(1280, &[], &mock).await else { return };
    let page = &scene.browser;
    let api = Http::new(&scene.url, ADMIN);
    let provider = |n: usize| {
        json!({ "name": format!("llm-{n:03}"), "type": "openai", "model": format!("model-{}", n % 7),
        "visibility": "public", "initialStatus": "active", "poolName": n.is_multiple_of(5).then(|| format!("pool-{}", n % 3)) })
    };
    for part in [0..250, 250..499] {
        let providers: Vec<_> = part.map(provider).collect();
        let answer = api.post("/api/v1/llms/_provider-register", &json!({ "providers": providers })).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    scene.sign_in(ADMIN).await;
    page.shows(".tiles", "500 of 500").await;
    note_long_tasks(page).await;
    let slowdown = Slowdown::start();
    page.type_into(".filter", "llm-123").await;
    page.until("document.querySelectorAll('[aria-labelledby=section-llms] tbody tr').length === 1").await;
    page.shows(".section-head", "1 of 500").await;
    page.click("a[data-page=chat]").await;
    page.until("document.querySelector('#model')?.options.length >= 500").await;
    page.click("a[data-page=overview]").await;
    page.click("[aria-labelledby=section-llms] > button").await;
    page.until("document.querySelectorAll('[aria-labelledby=section-llms] tbody tr').length > 500").await;
    no_task_was_longer_than(page, 100.0, slowdown).await;
    scene.reports_no_errors(&[]).await;
}

#[actix_rt::test]
async fn no_page_is_wider_than_a_phone() {
    let long = "a-model-with-a-name-as-long-as-they-are-these-days-7b-instruct-q4";
    let mock = json!([{ "name": long, "type": "mock", "model": "x".repeat(80), "publish": true, "visibility": "private" },
        { "name": "echo", "type": "mock", "model": "x", "publish": true, "poolName": "some-pool" }]);
    let Some(scene) = scene_of(390, &[], &mock).await else { return };
    let page = &scene.browser;
    scene.sign_in(ADMIN).await;
    page.shows("table", long).await;
    let fits = async |place: &str| {
        let wide = page.js("document.documentElement.scrollWidth").await.as_u64().unwrap();
        assert!(wide <= 390, "{place}: {wide} pixels on a phone of 390");
    };
    fits("overview").await;
    page.js(&format!("location.hash = '#/chat/{long}'")).await;
    page.until("document.querySelector('#model')?.options.length >= 2").await;
    page.type_into("#message", &format!("{} `{}` | a | b |\u{E007}", "wide ".repeat(30), "w".repeat(300)))
        .await;
    page.until("document.querySelector('.assistant:not([aria-busy])')").await;
    page.click(".settings summary").await;
    fits("chat").await;
    page.click(".side-toggle").await;
    page.click(".talks summary").await;
    fits("conversations").await;
    page.js(&format!("location.hash = '#/llm/{long}'")).await;
    page.shows("[aria-labelledby=recent] tbody", "200").await;
    fits("llm").await;
    page.js("location.hash = '#/tokens'").await;
    page.shows("[aria-labelledby=tokens] tbody", "alice").await;
    fits("tokens").await;
    scene.reports_no_errors(&[]).await;
}
