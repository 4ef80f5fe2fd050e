//! `add` while others change the configuration.

use std::os::unix::fs::PermissionsExt as _;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::process::Home;
use testkit::terminal::Terminal;
use tokio::sync::Barrier;

fn backend() -> FakeBackend {
    let backend = FakeBackend::start();
    let models = (1..=8).map(|n| format!("org/Model-{n}")).collect();
    backend.script(|script| script.models = Some(models));
    backend
}

fn read(home: &Home) -> Value {
    serde_json::from_slice(&std::fs::read(home.mcpctl().join("config.json")).unwrap()).unwrap()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|provider| provider["name"].as_str().unwrap()).collect()
}

/// All of them have read the file before the first of them writes it.
#[actix_rt::test]
async fn concurrent_adds_all_stay_in_the_file() {
    let (home, backend) = (Home::new(), backend());
    backend.script(|script| script.models_wait = Some(Rc::new(Barrier::new(8))));
    let (url, models) = (backend.url(), (1..=8).map(|n| format!("org/Model-{n}")).collect::<Vec<_>>());
    let adding = models.iter().map(|model| {
        let (home, url) = (&home, &url);
        async move { home.run(&["add", "--yes", "--model", model, "--url", url]).await }
    });
    for outcome in join_all(adding).await {
        assert_eq!(outcome.code(), 0, "{outcome:?}");
    }
    let file = read(&home);
    let mut added = names(&file["llm"]["providers"]);
    added.sort_unstable();
    assert_eq!(added, (1..=8).map(|n| format!("model-{n}")).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn an_edit_while_add_asks_is_kept() {
    let (home, backend) = (Home::new(), backend());
    home.write("config.json", &json!({ "providers": [{ "name": "old", "type": "mock" }] }).to_string());
    let terminal = Terminal::start(&home, &["add", "--url", &backend.url(), "--public", "--pool", "p"], 100);
    terminal.shows("Which are to be published?").await;
    let mine = json!({ "name": "model-2", "type": "mock", "publish": false });
    home.write("config.json", &json!({ "providers": [mine], "other": { "kept": 1 } }).to_string());
    terminal.types("2-3\r");
    let (status, text) = terminal.end().await;
    assert!(status.success() && text.contains("model-2-2, model-3"), "{text}");
    let file = read(&home);
    assert_eq!(names(&file["providers"]), ["model-2", "model-2-2", "model-3"]);
    assert_eq!((&file["providers"][0], &file["other"]), (&mine, &json!({ "kept": 1 })));
}

#[actix_rt::test]
async fn a_typed_name_that_was_taken_meanwhile_is_an_error() {
    let (home, backend) = (Home::new(), backend());
    let terminal = Terminal::start(&home, &["add", "--url", &backend.url(), "--public"], 100);
    terminal.shows("Which are to be published?").await;
    terminal.types("1\r");
    terminal.shows("Name at the hub").await;
    terminal.types("mine\r");
    terminal.shows("Pool that they join").await;
    let file = json!({ "providers": [{ "name": "mine", "type": "mock" }] });
    home.write("config.json", &file.to_string());
    terminal.types("\r");
    let (status, text) = terminal.end().await;
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("has a provider 'mine' already"), "{text}");
    assert_eq!(read(&home), file);
}

/// A killed `add` leaves its temporary file, a copy of the configuration.
#[actix_rt::test]
async fn abandoned_temporary_files_are_removed_at_the_next_write() {
    let (home, backend) = (Home::new(), backend());
    let old = home.write(".virtual-llm-abandoned.tmp", "{}");
    let (fresh, other) = (home.write(".virtual-llm-fresh.tmp", "{}"), home.write(".tmpother", "{}"));
    for path in [&old, &other] {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(1)).unwrap();
    }
    let outcome = home.run(&["add", "--yes", "--url", &backend.url()]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!((old.exists(), fresh.exists(), other.exists()), (false, true, true));
    let config = home.mcpctl().join("config.json");
    assert_eq!(config.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
