//! Changes of a running registrar's configuration, and the messages of `publish` at start.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::free_port;
use testkit::process::{Home, Process};
use testkit::team::{connected_registrar, hub_in_memory, start_registrar};
use testkit::terminal::Terminal;
use testkit::wait::wait_for;

fn mock(name: &str) -> Value {
    json!({ "name": name, "type": "mock", "publish": true })
}

fn config(home: &Home, providers: &Value, agents: &Value) {
    home.write("config.json", &json!({ "providers": providers, "agents": agents }).to_string());
}

#[actix_rt::test]
async fn reload_prints_the_changes_and_keeps_the_old_configuration_on_errors() {
    let (home, _hub, _) = hub_in_memory(&[]).await;
    config(&home, &json!([mock("one"), mock("two")]), &json!([]));
    let none = home.run(&["reload"]).await;
    assert_eq!(none.code(), 1);
    assert!(none.stderr.contains("no registrar is running here"), "{none:?}");

    let _registrar = connected_registrar(&home).await;
    let same = home.run(&["reload"]).await;
    assert_eq!((same.code(), same.stdout.as_str()), (0, "read again: nothing changed\n"), "{same:?}");
    let mut changed = mock("two");
    changed["description"] = "another".into();
    let agent = json!({ "name": "clerk", "llm": "three", "publish": true, "visibility": "public" });
    config(&home, &json!([changed, mock("three")]), &json!([agent]));
    let told = home.run(&["reload"]).await;
    assert_eq!(told.code(), 0, "{told:?}");
    assert_eq!(told.stdout, "added    LLM three\nadded    agent clerk\nchanged  LLM two\nremoved  LLM one\n");
    assert!(told.stderr.contains("warning: ") && told.stderr.contains("the private LLM 'three'"), "{told:?}");
    wait_for("the hub has the new LLM", || async {
        let table = home.run(&["get", "llm", "-o", "json"]).await.stdout;
        let rows: Value = serde_json::from_str(&table).ok()?;
        let status = |name: &str| rows.as_array()?.iter().find(|row| row["name"] == name).cloned();
        (status("three")?["status"] == "active" && status("one")?["status"] == "inactive").then_some(())
    })
    .await;

    for (text, word) in [
        ("{ \"providers\": [ ", "config.json"),
        (r#"{ "providers": [{ "name": "x", "type": "vlmm", "publish": true }] }"#, "did you mean 'vllm'?"),
        (
            r#"{ "providers": [{ "name": "x", "type": "mock", "publish": true }],
                 "agents": [{ "name": "a", "llm": "nothing-like-it", "publish": true }] }"#,
            "agents[0].llm: 'nothing-like-it' is published neither here nor at the hub",
        ),
    ] {
        home.write("config.json", text);
        let broken = home.run(&["reload"]).await;
        assert_eq!(broken.code(), 1, "{broken:?}");
        assert!(
            broken.stderr.contains("the old configuration stays") && broken.stderr.contains(word),
            "{broken:?}"
        );
    }
    assert!(home.run(&["status"]).await.stdout.contains("three"));
    config(&home, &json!([]), &json!([]));
    let emptied = home.run(&["reload"]).await;
    assert_eq!(emptied.stdout, "removed  LLM three\nremoved  LLM two\nremoved  agent clerk\n", "{emptied:?}");
}

/// The variable stays in the registrar's environment after its provider is gone.
#[actix_rt::test]
async fn a_recipe_never_gets_the_key_of_a_removed_provider() {
    let (home, _hub, _) = hub_in_memory(&[]).await;
    let seen = home.path().join("seen");
    let mut sleepy = mock("sleepy");
    let script = format!("env > {}", seen.display());
    sleepy["wake"] = json!({ "type": "command", "command": "sh", "args": ["-c", script] });
    let mut paid = mock("paid");
    (paid["type"], paid["model"], paid["apiKeyEnv"]) = ("openai".into(), "m".into(), "OLD_KEY".into());
    paid["url"] = "http://127.0.0.1:9/v1".into();
    config(&home, &json!([sleepy, paid]), &json!([]));
    let mut command = home.command(&["publish"]);
    let _registrar = Process::new(command.env("OLD_KEY", "secret").env("OTHER", "shown").spawn().unwrap());
    let up = async || {
        let outcome = home.run(&["provider", "sleepy", "up"]).await;
        (outcome.code() == 0).then(|| std::fs::read_to_string(&seen).unwrap())
    };
    let first = wait_for("the registrar runs the recipe", up).await;
    assert!(first.contains("OTHER=shown") && !first.contains("OLD_KEY"), "{first}");
    for description in ["changed", "changed again"] {
        sleepy["description"] = description.into();
        config(&home, &json!([sleepy]), &json!([]));
        assert_eq!(home.run(&["reload"]).await.code(), 0);
        let environment = up().await.unwrap();
        assert!(environment.contains("OTHER=shown") && !environment.contains("OLD_KEY"), "{environment}");
    }
}

#[actix_rt::test]
async fn publish_prints_what_it_publishes_and_warns_of_unsuitable_backends() {
    let (home, _hub, _) = hub_in_memory(&[]).await;
    let (backend, closed_port) = (FakeBackend::start(), free_port());
    let at = |name: &str, model: &str, url: String| json!({ "name": name, "type": "openai", "model": model, "url": url, "publish": true });
    let unreachable_url = || format!("http://127.0.0.1:{closed_port}/v1");
    let mut sleeps = at("sleeps", "m", unreachable_url());
    sleeps["wake"] = json!({ "type": "command", "command": "true" });
    config(
        &home,
        &json!([
            at("good", "fake-model", backend.url()),
            at("lacking", "/srv/x/y.gguf", backend.url()),
            at("away", "m", unreachable_url()),
            sleeps
        ]),
        &json!([{ "name": "clerk", "llm": "good", "publish": true }]),
    );
    let registrar = connected_registrar(&home).await;
    registrar.logs("provider lacking: the backend has no model 'y.gguf'").await;
    registrar.logs("provider away: the backend cannot be reached").await;
    let log = registrar.stderr();
    let line = log.lines().find(|line| line.contains("publishing to http://127.0.0.1:")).unwrap();
    assert!(line.contains("4 LLMs: good (fake-model, private), lacking (y.gguf, private)"), "{line}");
    assert!(line.contains("; 1 agent: clerk"), "{line}");
    for secret in [backend.url(), unreachable_url(), "/srv/x".to_owned()] {
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
    assert!(!log.contains("start: provider sleeps") && !log.contains("start: provider good"), "{log}");
}

#[actix_rt::test]
async fn publish_fails_with_only_invalid_providers_but_not_without_providers() {
    let home = Home::new();
    home.credentials("http://127.0.0.1:9", "t");
    for (kind, meant) in [("lama.cpp", "did you mean 'llamacpp'?"), ("LM-Studio", "did you mean 'lmstudio'?")]
    {
        config(&home, &json!([{ "name": "a", "type": kind, "model": "m", "publish": true }]), &json!([]));
        for (command, code) in [("publish", 2), ("check", 1)] {
            let outcome = home.run(&[command]).await;
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert_eq!(outcome.code(), code, "{outcome:?}");
            assert!(said.contains(meant) && said.contains("providers[0].type"), "{outcome:?}");
        }
    }
    config(&home, &json!([{ "name": "a", "type": "olama", "model": "m" }]), &json!([]));
    let outcome = home.run(&["publish"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stderr.contains("nothing to publish"), "{outcome:?}");
}

#[actix_rt::test]
async fn an_agent_needs_an_llm_here_or_at_the_hub() {
    let (home, hub, _) = hub_in_memory(&[]).await;
    let agent = |llm: &str| json!([{ "name": "clerk", "llm": llm, "publish": true }]);
    let create =
        ["create", "llm", "far", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    assert_eq!(home.run(&[&create[..], &["--pool-name", "far-pool"]].concat()).await.code(), 0);
    for llm in ["here", "far", "far-pool"] {
        config(&home, &json!([mock("here")]), &agent(llm));
        let outcome = home.run(&["check"]).await;
        assert_eq!(outcome.code(), 0, "{llm}: {outcome:?}");
    }
    let mut kept = mock("kept");
    kept["publish"] = false.into();
    for (llm, word) in [("kept", "\"publish\": true"), ("nowhere", "published neither here nor at the hub")] {
        config(&home, &json!([mock("here"), kept]), &agent(llm));
        for (command, code) in [("check", 1), ("publish", 2)] {
            let outcome = home.run(&[command]).await;
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert_eq!(outcome.code(), code, "{llm}: {outcome:?}");
            assert!(said.contains("agents[0].llm") && said.contains(word), "{outcome:?}");
        }
    }
    // While the hub is away, the registrar cannot check for the agent's LLM, and starts without the check.
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.end().await.code(), 0);
    config(&home, &json!([mock("here")]), &agent("nowhere"));
    let registrar = start_registrar(&home);
    registrar.logs("whether the hub has it cannot be asked now").await;
    registrar.logs("publishing to ").await;
    registrar.signal(Signal::SIGTERM);
    assert_eq!(registrar.end().await.code(), 0);
}

#[actix_rt::test]
async fn add_shows_one_list_and_asks_once_how_to_publish_the_selection() {
    let (home, _hub, _) = hub_in_memory(&[]).await;
    let backend = FakeBackend::start();
    let models: Vec<String> = (1..=12).map(|n| format!("org/Model-{n}")).collect();
    backend.script(|script| script.models = Some(models));
    let terminal = Terminal::start(&home, &["add", "--url", &backend.url()], 100);
    terminal.shows("12  org/Model-12").await;
    terminal.shows("Which are to be published?").await;
    terminal.types("2-99\r");
    terminal.shows("'99' is no number from 1 to 12").await;
    terminal.types("1, 3-4\r");
    terminal.shows("May everybody at the hub use them?").await;
    terminal.types("y\r");
    terminal.shows("Pool that they join").await;
    terminal.types("team\r");
    terminal.shows("Next: virtual-llm publish").await;
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{text}");
    assert_eq!(
        text.matches('?').count(),
        3,
        "one question for the list, asked twice, and one for all: {text}"
    );
    let file = std::fs::read(home.mcpctl().join("config.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let added = file["llm"]["providers"].as_array().unwrap();
    let names: Vec<_> = added.iter().map(|provider| provider["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["model-1", "model-3", "model-4"]);
    for provider in added {
        assert_eq!((&provider["poolName"], &provider["visibility"]), (&json!("team"), &json!("public")));
    }

    let nothing = Terminal::start(&home, &["add", "--url", &backend.url()], 100);
    nothing.shows("Which are to be published?").await;
    nothing.types("\r");
    let (status, text) = nothing.end().await;
    assert!(status.success() && text.contains("Nothing was added"), "{text}");
    assert!(text.contains("org/Model-3 is published already, as model-3"), "{text}");
    // While a registrar runs, the suggested next step is `reload`.
    let _registrar = connected_registrar(&home).await;
    let one = Terminal::start(&home, &["add", "--url", &backend.url(), "--public", "--pool", "p"], 100);
    one.shows("Which are to be published?").await;
    one.types("9\r");
    one.shows("Name at the hub [model-12]").await;
    one.types("twelve\r");
    one.shows("Next: virtual-llm reload").await;
    assert!(one.end().await.0.success());
    let told = home.run(&["reload"]).await;
    assert_eq!(told.stdout, "added    LLM twelve\n", "{told:?}");
    let flags = ["add", "--url", &backend.url(), "--yes", "--pool", "p"];
    let rest = home.run(&flags).await;
    assert!(
        rest.stdout.contains("model-2, model-5") && rest.stdout.contains("virtual-llm reload"),
        "{rest:?}"
    );
}

#[actix_rt::test]
async fn pause_prints_what_callers_get() {
    let (home, _hub, _) = hub_in_memory(&[]).await;
    config(&home, &json!([mock("one")]), &json!([]));
    let _registrar = connected_registrar(&home).await;
    for (args, word) in [(&["pause", "--for", "3m"][..], "for 3m"), (&["pause"], "`virtual-llm resume`")] {
        let told = home.run(args).await.stdout;
        assert!(told.contains("503") && told.contains(word) && !told.contains("wait"), "{told}");
    }
    let status = home.run(&["status"]).await.stdout;
    assert!(status.contains("callers get 503"), "{status}");
}
