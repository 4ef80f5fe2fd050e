//! The web console: its files, its live events, the recent tasks of one row.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::http::{Answer, ask};
use super::publisher::{Publisher, private, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, hub, hub_with};

/// Skips events until one is named `name`. Returns its data.
async fn event(stream: &mut Answer, name: &str) -> Value {
    loop {
        let piece = stream.next().await.expect("the stream has not ended");
        for block in piece.split("\n\n") {
            if let Some(data) = block.strip_prefix(&format!("event: {name}\ndata: ")) {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

/// Reads `change` events until one satisfies `wanted`.
async fn change(stream: &mut Answer, wanted: impl Fn(&Value) -> bool) {
    while !wanted(&event(stream, "change").await) {}
}

async fn watch(hub: &TestHub, token: &str) -> (Answer, Value) {
    let mut stream = hub.ask_as(token, "GET", "/api/v1/events").open().await;
    assert_eq!(stream.status, 200, "{}", stream.head);
    assert!(stream.head.contains("content-type: text/event-stream"));
    assert!(stream.head.contains("no-store"));
    let snapshot = event(&mut stream, "snapshot").await;
    (stream, snapshot)
}

/// Who generates a client has no token: the document is the same for everybody, and has not even the hub's version.
#[actix_rt::test]
async fn the_openapi_document_needs_no_token_and_says_nothing_of_the_hub() {
    let hub = hub().await;
    let mut answer = ask(hub.addr, "GET", "/openapi.json").open().await;
    assert_eq!(answer.status, 200);
    for header in ["content-type: application/json\r\n", "cache-control: no-cache\r\n"] {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
    let text = answer.rest().await;
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["info"]["version"], "1");
    assert!(!text.contains(env!("CARGO_PKG_VERSION")));
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("seen-by-all")], None).await;
    assert_eq!(ask(hub.addr, "GET", "/openapi.json").open().await.rest().await, text);
    hub.stop().await;
}

/// A22, A30, A33: the console's headers forbid foreign scripts and framing, and no CORS header is sent.
#[actix_rt::test]
async fn the_page_needs_no_token_and_runs_its_own_scripts_only() {
    let hub = hub().await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console/app.js", "text/javascript; charset=utf-8"),
        ("/console/style.css", "text/css; charset=utf-8"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let mut answer = ask(hub.addr, "GET", path).open().await;
        assert_eq!(answer.status, 200, "{path}");
        for header in [
            &format!("content-type: {kind}"),
            "content-security-policy: default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; ",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.head.contains(header), "{path}: {header} in {}", answer.head);
        }
        assert!(
            !answer.head.contains("access-control"),
            "{path}: pages of other origins may read the answer"
        );
        let body = answer.rest().await;
        let foreign = body.replace("http://www.w3.org/", "");
        assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{path} loads from elsewhere");
        assert!(!body.contains("innerHTML") && !body.contains("style=\""), "{path}");
    }
    assert_eq!(ask(hub.addr, "GET", "/console/../lib.rs").send().await.0, 404);
    assert_eq!(ask(hub.addr, "GET", "/console/nothing.js").send().await.0, 404);
    hub.stop().await;
}

#[actix_rt::test]
async fn every_file_of_the_console_is_served() {
    let hub = hub().await;
    for name in names("") {
        let path = if name == "index.html" { "/".into() } else { format!("/console/{name}") };
        assert_eq!(ask(hub.addr, "GET", path).send().await.0, 200, "{name}");
    }
    for name in scripts("vendor") {
        let (status, text) = ask(hub.addr, "GET", format!("/console/vendor/{name}")).send().await;
        assert_eq!(status, 200, "{name}");
        // The file is that of its package, whose sum the notice has.
        let sum = crate::random::hex(&Sha256::digest(text));
        let line =
            NOTICE.lines().find(|line| line.contains(name.as_str())).unwrap_or_else(|| panic!("{name}"));
        assert!(line.contains(&sum), "{name} has {sum}");
    }
    hub.stop().await;
}

const NOTICE: &str = include_str!("../console/vendor/NOTICE.md");

/// The names of the files in a folder of the console.
fn names(folder: &str) -> Vec<String> {
    let folder = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/console/{}"), folder);
    let files = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_type().unwrap().is_file());
    files.map(|file| file.file_name().into_string().unwrap()).collect()
}

fn scripts(folder: &str) -> Vec<String> {
    let is_script = |name: &String| std::path::Path::new(name).extension().is_some_and(|end| end == "js");
    names(folder).into_iter().filter(is_script).collect()
}

/// The page's own scripts stay small enough to be read, and make no HTML.
#[test]
fn the_scripts_are_small_and_make_no_html() {
    let mut lines = 0;
    for name in scripts("") {
        let text =
            std::fs::read_to_string(format!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/console/{}"), name))
                .unwrap();
        lines += text.lines().filter(|line| !line.trim().is_empty()).count();
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "srcdoc"]
        {
            assert!(!text.contains(sink), "{name}: {sink}");
        }
    }
    assert!(lines < 2500, "{lines} lines");
}

/// A browser asks for the page's own files again and gets 304; libraries, which have their version in their name, it keeps.
#[actix_rt::test]
async fn known_files_are_not_sent_again() {
    let hub = hub().await;
    for (path, cached) in [
        ("/", "cache-control: no-cache"),
        ("/favicon.ico", "cache-control: no-cache"),
        ("/console/app.js", "cache-control: no-cache"),
        ("/console/vendor/marked-18.2.1.js", "cache-control: public, max-age=31536000, immutable"),
    ] {
        let first = ask(hub.addr, "GET", path).open().await;
        assert!(first.head.contains(cached), "{}", first.head);
        let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            let mut again = ask(hub.addr, "GET", path).header("if-none-match", &known).open().await;
            assert_eq!(again.status, 304, "{path} {known}");
            assert!(again.head.contains(&tag) && again.head.contains(cached), "{}", again.head);
            assert_eq!(again.rest().await, "");
        }
        let other = ask(hub.addr, "GET", path).header("if-none-match", "\"other\"").send().await;
        assert_eq!(other.0, 200, "{path}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn events_begin_with_everything_that_the_caller_sees() {
    let hub = hub().await;
    assert_eq!(ask(hub.addr, "GET", "/api/v1/events").send().await.0, 401);
    let alice = hub.member("alice").await;
    let bob = hub.member("bob").await;
    let _publisher =
        Publisher::start(&hub, &alice, &[provider("open"), private(provider("secret"))], None).await;

    let (_, seen) = watch(&hub, &alice).await;
    assert_eq!(seen["llms"]["secret"]["status"], "active");
    assert_eq!(seen["publishers"].as_object().unwrap().len(), 1);
    let (_, seen) = watch(&hub, &bob).await;
    assert_eq!(seen["llms"]["open"]["status"], "active");
    assert!(!seen.to_string().contains("secret"), "{seen}");
    let (_, seen) = watch(&hub, ADMIN).await;
    assert_eq!(seen["llms"]["secret"]["waking"], false);
    hub.stop().await;
}

/// A34: events of a private row reach its owner and admins only.
#[actix_rt::test]
async fn events_of_a_private_row_reach_its_owner_and_admins_only() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, &alice, &[private(provider("secret"))], None).await;
    let (mut stranger, seen) = watch(&hub, &bob).await;
    let (mut owner, _) = watch(&hub, &alice).await;
    assert_eq!(seen.get("llms"), None);
    publisher.close();
    change(&mut owner, |change| change["llms"]["secret"]["status"] == "inactive").await;
    // The next event of the stranger's stream proves that the private change was skipped.
    let _second = Publisher::start(&hub, &alice, &[provider("open")], None).await;
    let next = event(&mut stranger, "change").await;
    assert_eq!(next["llms"].as_object().unwrap().keys().collect::<Vec<_>>(), ["open"]);
    assert!(next.get("publishers").is_none() && next.get("tasks").is_none(), "{next}");
    hub.stop().await;
}

#[actix_rt::test]
async fn changes_of_rows_and_tasks_are_events() {
    let hub = hub().await;
    let (mut stream, seen) = watch(&hub, ADMIN).await;
    assert!(seen.get("llms").is_none());
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    change(&mut stream, |change| change["llms"]["a"]["status"] == "active").await;

    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let task = publisher.task().await;
        change(&mut stream, |change| change["totals"]["tasks"]["running"] == 1).await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    change(&mut stream, |change| {
        let tasks = change["tasks"].as_object();
        tasks.is_some_and(|tasks| tasks.values().any(|task| task["status"] == "completed"))
    })
    .await;
    hub.stop().await;
}

#[actix_rt::test]
async fn events_end_when_their_token_is_revoked_and_when_the_hub_stops() {
    let hub = hub().await;
    let wanted = r#"{"user":"carol"}"#;
    let (_, token) = hub.ask("POST", "/api/v1/tokens").body(wanted).json().await;
    let (mut revoked, _) = watch(&hub, token["token"].as_str().unwrap()).await;
    let (mut stopped, _) = watch(&hub, ADMIN).await;
    let path = format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
    assert_eq!(hub.ask("DELETE", path).send().await.0, 204);
    while revoked.next().await.is_some() {}
    let end = async { while stopped.next().await.is_some() {} };
    futures_util::join!(hub.stop(), end);
}

/// A27: event streams are bounded for a user, for all members, and in total; admins keep a share.
#[actix_rt::test]
async fn event_streams_are_bounded_by_user_by_role_and_in_total() {
    let hub = hub().await;
    let mut streams = Vec::new();
    for user in 0..30 {
        let token = hub.member(&format!("user-{user}")).await;
        for _ in 0..8 {
            streams.push(watch(&hub, &token).await);
        }
        let more = hub.ask_as(&token, "GET", "/api/v1/events").json().await;
        assert_eq!(more.0, 429);
        assert_eq!(more.1["error"], "you have 8 watchers already: wait for some to end");
    }
    let late = hub.member("late").await;
    let late = hub.ask_as(&late, "GET", "/api/v1/events");
    let (status, refused) = late.json().await;
    assert_eq!((status, &refused["error"]), (429, &"240 watch already: wait for some to leave".into()));
    assert_eq!(hub.ask("GET", "/api/v1/events").open().await.status, 200, "an admin is refused");
    streams.pop();
    super::support::eventually("another watcher is accepted", async || late.open().await.status == 200).await;
    hub.stop().await;
}

#[actix_rt::test]
async fn recent_tasks_of_a_row_name_users_to_admins_only() {
    let hub = hub_with(|_| ()).await;
    let alice = hub.member("alice").await;
    let bob = hub.member("bob").await;
    let mut publisher =
        Publisher::start(&hub, &alice, &[provider("open"), private(provider("secret"))], None).await;
    publisher.serves(&hub, &infer(&hub, "open", false), "hello").await;

    let tasks = async |token: &str, name: &str| {
        hub.ask_as(token, "GET", format!("/api/v1/llms/{name}/tasks")).send().await
    };
    let rows =
        async |token: &str| -> Vec<Value> { serde_json::from_str(&tasks(token, "open").await.1).unwrap() };
    let (admins, owners, strangers) = (rows(ADMIN).await, rows(&alice).await, rows(&bob).await);
    assert_eq!(admins[0]["user"], "admin");
    assert_eq!(admins[0]["status"], 200);
    assert_eq!(owners.len(), 1, "the owner sees the tasks of the row");
    assert_eq!(owners[0]["user"], Value::Null, "the owner does not see the callers");
    assert!(strangers.is_empty(), "a stranger sees another user's task");
    let (hidden, unknown) = (tasks(&bob, "secret").await, tasks(&bob, "unseen").await);
    assert_eq!(hidden.0, 404);
    assert_eq!(hidden.1.replace("secret", "unseen"), unknown.1);
    hub.stop().await;
}
