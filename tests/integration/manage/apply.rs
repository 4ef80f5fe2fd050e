//! The command `apply`.

use super::*;

#[actix_rt::test]
async fn apply_of_gets_yaml_output_changes_nothing() {
    let scene = Scene::start().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    scene.ok(&[llm.as_slice(), &["--description", "yes", "--pool-name", "p"]].concat()).await;
    scene
        .ok(&[
            "create",
            "agent",
            "helper",
            "--llm",
            "gpt",
            "--system-prompt",
            "a: b\n- c",
            "--default-params",
            r#"{"temperature":0.2}"#,
        ])
        .await;
    for (kind, expected) in [("llm", "llm/gpt unchanged\n"), ("agents", "agent/helper unchanged\n")] {
        let yaml = scene.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
        assert_eq!(applied.stdout, expected, "{applied:?}");
        assert_eq!(scene.ok(&["get", kind, "-o", "yaml"]).await, yaml);
    }
    // Virtual rows, sessions and tasks cannot be created with `apply`.
    scene.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let id = scene.ok(&["chat-llm", "echo", "--async", "-m", "hi"]).await;
    testkit::wait::wait_for("the task ends", || async {
        scene.ok(&["get", "task", id.trim(), "-o", "yaml"]).await.contains("status: completed").then_some(())
    })
    .await;
    for kind in ["llm", "agent", "session", "task"] {
        let yaml = scene.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
        assert!(applied.stdout.lines().count() > 0 && applied.code() == 0, "{kind}: {applied:?}");
        assert!(applied.stdout.lines().all(|line| line.ends_with(" unchanged")), "{kind}: {applied:?}");
        // A heartbeat may change the times meanwhile.
        let still = |yaml: &str| {
            yaml.lines().filter(|line| !line.contains("eartbeat")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(still(&scene.ok(&["get", kind, "-o", "yaml"]).await), still(&yaml), "{kind}");
    }
    let changed = scene.ok(&["get", "llm", "gpt", "-o", "yaml"]).await.replace("model: m", "model: other");
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &changed).await;
    assert_eq!(applied.stdout, "llm/gpt configured\n", "{applied:?}");
    let row: Value = serde_json::from_str(&scene.ok(&["get", "llm", "gpt", "-o", "json"]).await).unwrap();
    assert_eq!((&row["model"], &row["poolName"]), (&json!("other"), &json!("p")));
    // A stored key is not sent to another server: a changed URL drops the key, with a warning.
    let keyed = "{name: keyed, type: openai, model: m, url: 'https://x.example/v1', apiKey: sk-canary}";
    assert_eq!(
        run_with_input(&scene.admin, &["apply", "-f", "-"], keyed).await.stdout,
        "llm/keyed created\n"
    );
    let moved = keyed.replace("x.example", "y.example").replace(", apiKey: sk-canary", "");
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &moved).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "llm/keyed configured\n"));
    assert!(applied.stderr.contains("warning: the url names another server"), "{applied:?}");
}

/// A34: of another user's agent whose LLM is hidden, the output has no `llmName`.
#[actix_rt::test]
async fn apply_keeps_an_agent_whose_llm_is_hidden() {
    let scene = Scene::start().await;
    let agent = ["create", "agent", "helper", "--llm", "hidden", "--visibility", "public"];
    scene.ok(&agent).await;
    let bob = Home::new();
    bob.credentials(&scene.url, scene.ok(&["token", "create", "--user", "bob"]).await.trim());
    let yaml = bob.run(&["get", "agent", "-o", "yaml"]).await.stdout;
    assert!(yaml.contains("llmName: null"), "{yaml}");
    let after = "- {name: own, llmName: helper}";
    for home in [&bob, &scene.admin] {
        let applied = run_with_input(home, &["apply", "-f", "-"], &yaml).await;
        assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/helper unchanged\n"), "{applied:?}");
    }
    scene.ok(&["delete", "agent", "helper"]).await;
    // The other objects of the file are applied.
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &format!("{yaml}{after}\n")).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/own created\n"), "{applied:?}");
    assert!(applied.stderr.contains("agent/helper skipped: its llmName is hidden"), "{applied:?}");
}

/// A34: an agent of another user would open the caller's private LLM of the same name.
#[actix_rt::test]
async fn apply_does_not_create_what_was_another_users() {
    let scene = Scene::start().await;
    let mallory = Home::new();
    mallory.credentials(&scene.url, scene.ok(&["token", "create", "--user", "mallory"]).await.trim());
    let agent = ["create", "agent", "helper", "--llm", "private", "--visibility", "public"];
    assert_eq!(mallory.run(&agent).await.code(), 0);
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    scene.ok(&llm).await;
    let [agents, llms] =
        [scene.ok(&["get", "agent", "-o", "yaml"]).await, scene.ok(&["get", "llm", "-o", "yaml"]).await];
    let other = Scene::start().await;
    let applied = run_with_input(&other.admin, &["apply", "-f", "-"], &format!("{agents}{llms}")).await;
    // The caller's own objects of the file are created.
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "llm/gpt created\n"), "{applied:?}");
    assert!(applied.stderr.contains("agent/helper skipped: it was mallory's"), "{applied:?}");
    let chosen = agents.replace("ownerId: mallory", "ownerId: null");
    let applied = run_with_input(&other.admin, &["apply", "-f", "-"], &chosen).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/helper created\n"), "{applied:?}");
}

/// A virtual row without its registrar would be a public one without an address.
#[actix_rt::test]
async fn apply_leaves_what_a_workstation_publishes_to_it() {
    let scene = Scene::start().await;
    for (object, fields) in [("llm", "type: openai\nmodel: m"), ("agent", "llmName: other")] {
        let file = format!("name: lent\nkind: virtual\n{fields}\n");
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &file).await;
        assert_eq!((applied.code(), applied.stdout.as_str()), (0, ""), "{applied:?}");
        assert!(applied.stderr.contains(&format!("{object}/lent skipped: it is published")), "{applied:?}");
    }
}
