//! Configurations with mistakes, and the golden texts of their reports. Over 300 lines: a table of texts.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use actors::options::{Action, BackendConfig, OnAbort};
use serde_json::{Value, json};
use wire::row::{Tier, Visibility};

use super::*;

fn read_with(value: &Value, variables: &[(&str, &str)]) -> (Published, Report) {
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let environment = Environment { variable: &variable, host: &|| "Alice's Laptop.local".to_owned() };
    let mut report = Report::default();
    let published = read(value, &environment, &mut report);
    (published, report)
}

fn read_plain(value: &Value) -> (Published, Report) {
    read_with(value, &[])
}

fn errors(value: &Value) -> Vec<String> {
    read_plain(value).1.errors.iter().map(ToString::to_string).collect()
}

fn warnings(value: &Value) -> Vec<String> {
    let (_, report) = read_plain(value);
    assert_eq!(report.errors, [], "only warnings were expected");
    report.warnings.iter().map(ToString::to_string).collect()
}

/// A configuration with one provider that has `extra` keys.
fn with(extra: &Value) -> Value {
    let mut provider = json!({ "name": "a", "type": "vllm", "model": "m", "publish": true });
    for (key, value) in extra.as_object().unwrap() {
        provider[key] = value.clone();
    }
    json!({ "llm": { "providers": [provider] } })
}

fn one(extra: &Value) -> ProviderConfig {
    let (mut published, report) = read_plain(&with(extra));
    assert_eq!(report.errors, []);
    published.providers.remove(0)
}

fn url_of(provider: &ProviderConfig) -> &str {
    match &provider.backend {
        BackendConfig::OpenAi(http) | BackendConfig::Anthropic(http) => http.url.reveal(),
        other => panic!("{other:?} has no url"),
    }
}

#[test]
fn the_example_in_the_specification_is_read_in_full() {
    let value = json!({
        "publisher": { "suffix": "auto" },
        "llm": { "providers": [ {
            "name": "vllm-local", "type": "vllm", "model": "Qwen/Qwen2.5-7B-Instruct-AWQ",
            "url": "http://localhost:8000/v1", "apiKeyEnv": "VLLM_KEY",
            "tier": "fast", "description": "…", "publish": true, "publishName": "vllm-local-alice",
            "poolName": "qwen", "visibility": "private", "maxConcurrency": 4, "maxQueue": 64, "timeoutSeconds": 600,
            "allowModelOverride": false, "onAbort": "close",
            "wake": { "type": "command", "command": "systemctl", "args": ["--user", "start", "vllm"], "maxWaitSeconds": 120 }
        } ] },
        "agents": [ { "name": "helper", "llm": "vllm-local", "systemPrompt": "…", "publish": true } ]
    });
    let (published, report) = read_with(&value, &[("VLLM_KEY", "k-1")]);
    assert_eq!((report.errors, report.warnings), (vec![], vec![]));
    let provider = &published.providers[0];
    assert_eq!(provider.wire_name.as_str(), "vllm-local-alice");
    assert_eq!((provider.hub_type.as_str(), url_of(provider)), ("vllm", "http://localhost:8000/v1"));
    assert_eq!((provider.tier, provider.visibility), (Some(Tier::Fast), Visibility::Private));
    assert_eq!((provider.max_concurrency, provider.max_queue), (4, 64));
    assert_eq!((provider.timeout, provider.on_abort), (Duration::from_mins(10), OnAbort::Close));
    let wake = provider.wake.as_ref().unwrap();
    assert_eq!(wake.max_wait, Duration::from_mins(2));
    let Action::Command { command, args, scrub_env } = &wake.action else { panic!("a command") };
    assert_eq!((command.as_str(), args.len()), ("systemctl", 3));
    assert_eq!(scrub_env, &["MCPD_TOKEN", "VIRTUAL_LLM_ADMIN_TOKEN", "VLLM_KEY"]);
    let agent = &published.agents[0];
    assert_eq!((agent.wire_name.as_str(), agent.llm.as_str()), ("helper-alice-s-laptop-local", "vllm-local"));
}

#[test]
fn absent_keys_have_the_defaults_of_the_specification() {
    let provider = one(&json!({}));
    assert_eq!((provider.max_concurrency, provider.max_queue), (4, 64));
    assert_eq!((provider.timeout, provider.visibility), (Duration::from_mins(10), Visibility::Private));
    assert_eq!(provider.on_abort, OnAbort::Close);
    assert!(!provider.allow_model_override && provider.wake.is_none() && provider.tier.is_none());
    assert!(!provider.keep_attribution && one(&json!({ "keepAttribution": true })).keep_attribution);
}

#[test]
fn each_type_has_its_default_url_and_its_type_at_the_hub() {
    for (kind, hub_type, url) in [
        ("vllm", "vllm", "http://127.0.0.1:8000/v1"),
        ("llamacpp", "openai", "http://127.0.0.1:8080/v1"),
        ("lmstudio", "openai", "http://127.0.0.1:1234/v1"),
        ("ollama", "ollama", "http://127.0.0.1:11434/v1"),
        ("anthropic", "anthropic", "https://api.anthropic.com/v1"),
    ] {
        let provider = one(&json!({ "type": kind }));
        assert_eq!((provider.hub_type.as_str(), url_of(&provider)), (hub_type, url));
    }
    let provider = one(&json!({ "type": "mock", "tokens": 5, "tokensPerSecond": 50, "panicEvery": 3 }));
    assert_eq!(provider.hub_type, "openai");
    assert!(matches!(provider.backend, BackendConfig::Mock(_)));
}

#[test]
fn an_unknown_type_is_openai_with_a_url_and_skipped_without_one() {
    let value = with(&json!({ "type": "sglang", "url": "http://localhost:30000" }));
    assert_eq!(read_plain(&value).0.providers[0].hub_type, "openai");
    assert_eq!(
        warnings(&value),
        ["llm.providers[0].type: unknown type 'sglang'; treated as \"openai\" because it has a url"]
    );
    let value = with(&json!({ "type": "sglang" }));
    assert!(read_plain(&value).0.is_empty());
    assert_eq!(
        warnings(&value),
        ["llm.providers[0].type: unknown type 'sglang' and no url; this provider is skipped"]
    );
}

#[test]
fn a_providers_proxy_is_read_and_never_quoted() {
    let at = |url: &str, proxy: &str| with(&json!({ "type": "vllm", "url": url, "proxy": proxy }));
    let value = at("http://gpu.example:8000", "http://user:canary@proxy.example:3128");
    let proxy = read_plain(&value).0.providers[0].proxy.clone().unwrap();
    assert_eq!(proxy.address(), "proxy.example:3128");
    assert!(!format!("{proxy:?}").contains("canary"));
    let value = at("http://localhost:8000", "http://proxy.example:3128");
    assert_eq!(read_plain(&value).0.providers[0].proxy, None);
    assert_eq!(
        warnings(&value),
        ["llm.providers[0].proxy: not used: a backend on this machine is called directly"]
    );
    let value = at("http://gpu.example:8000", "socks5://user:canary@proxy.example");
    let errors = errors(&value);
    assert!(errors.len() == 1 && errors[0].contains("SOCKS proxy is not supported"), "{errors:?}");
    assert!(!errors[0].contains("canary"), "{errors:?}");
}

#[test]
fn published_providers_are_read_at_the_top_level_and_under_llm() {
    let provider = |name: &str, publish: bool| json!({ "name": name, "type": "mock", "publish": publish });
    let value = json!({
        "providers": [provider("a", true), provider("b", false)],
        "llm": { "providers": [provider("c", true), { "anything": ["of", "another", "tool"] }] },
        "someOtherTool": { "providers": 5 },
    });
    let (published, report) = read_plain(&value);
    assert_eq!((report.errors, report.warnings), (vec![], vec![]));
    let names: Vec<_> = published.providers.iter().map(|provider| provider.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn the_suffix_is_appended_to_names_without_a_publish_name() {
    let value = json!({
        "publisher": { "suffix": "Desk Top" },
        "providers": [
            { "name": "a", "type": "mock", "publish": true },
            { "name": "b", "type": "mock", "publish": true, "publishName": "bee" },
        ],
    });
    let names = |variables: &[(&str, &str)]| -> Vec<String> {
        let (published, _) = read_with(&value, variables);
        published.providers.iter().map(|provider| provider.wire_name.to_string()).collect()
    };
    assert_eq!(names(&[]), ["a-desk-top", "bee"]);
    assert_eq!(names(&[("MCPCTL_PUBLISHER_SUFFIX", "auto")]), ["a-alice-s-laptop-local", "bee"]);
    assert_eq!(names(&[("MCPCTL_PUBLISHER_SUFFIX", "--x--")]), ["a-x", "bee"]);
}

#[test]
fn an_unset_key_variable_is_a_warning() {
    let value = with(&json!({ "apiKeyEnv": "NO_SUCH_KEY" }));
    assert_eq!(
        warnings(&value),
        ["llm.providers[0].apiKeyEnv: the variable NO_SUCH_KEY is not set; calls go without a key"]
    );
}

#[test]
fn a_misspelt_key_is_a_warning_with_a_suggestion() {
    assert_eq!(
        warnings(&with(
            &json!({ "poolname": "x", "max_queue": 3, "wakee": {}, "host": "mine", "priority": 1 })
        )),
        [
            "llm.providers[0].poolname: unknown key, ignored; did you mean 'poolName'?",
            "llm.providers[0].max_queue: unknown key, ignored; did you mean 'maxQueue'?",
            "llm.providers[0].wakee: unknown key, ignored; did you mean 'wake'?",
        ]
    );
    assert_eq!(warnings(&json!({ "agent": [] })), ["agent: unknown key, ignored; did you mean 'agents'?"]);
}

#[test]
fn every_error_names_its_key_and_what_was_expected() {
    let recipe = |recipe: Value| with(&json!({ "wake": recipe }));
    for (value, expected) in [
        (json!([]), "expected an object, found a list"),
        (json!({ "providers": {} }), "providers: expected a list, found an object"),
        (json!({ "llm": { "providers": [7] } }), "llm.providers[0]: expected an object, found a number"),
        (
            with(&json!({ "publish": "yes" })),
            "llm.providers[0].publish: expected true or false, found a string",
        ),
        (with(&json!({ "name": null })), "llm.providers[0].name: is missing; expected a string"),
        (with(&json!({ "model": 7 })), "llm.providers[0].model: expected a string, found a number"),
        (with(&json!({ "model": " " })), "llm.providers[0].model: expected a text that is not empty"),
        (with(&json!({ "type": null })), "llm.providers[0].type: is missing; expected a string"),
        (with(&json!({ "type": "openai" })), "llm.providers[0].url: is missing; expected a string"),
        (
            with(&json!({ "url": "localhost:8000" })),
            "llm.providers[0].url: expected an address that begins with http:// or https://",
        ),
        (
            with(&json!({ "tier": "medium" })),
            "llm.providers[0].tier: expected \"fast\" or \"heavy\", found another text",
        ),
        (
            with(&json!({ "visibility": true })),
            "llm.providers[0].visibility: expected \"private\" or \"public\", found true",
        ),
        (
            with(&json!({ "maxConcurrency": 0 })),
            "llm.providers[0].maxConcurrency: expected a whole number of at least 1, found another number",
        ),
        (
            with(&json!({ "timeoutSeconds": "10" })),
            "llm.providers[0].timeoutSeconds: expected a number of seconds, more than 0 and at most 31536000, found a string",
        ),
        (
            with(&json!({ "timeoutSeconds": 1_000_000_000 })),
            "llm.providers[0].timeoutSeconds: expected a number of seconds, more than 0 and at most 31536000, \
             found another number",
        ),
        (
            with(&json!({ "name": "My Model" })),
            "llm.providers[0].name: 'My Model' cannot be published: a name has only a-z and 0-9, and '-', '.', '_' \
             inside; a publishName can differ from the name",
        ),
        (
            with(&json!({ "publishName": "x".repeat(101) })),
            &format!(
                "llm.providers[0].publishName: '{}' cannot be published: a name has at most 100 characters",
                "x".repeat(101)
            ),
        ),
        (recipe(json!("start")), "llm.providers[0].wake: expected an object, found a string"),
        (
            recipe(json!({})),
            "llm.providers[0].wake.type: is missing; expected \"http\" or \"command\" or \"wol\"",
        ),
        (
            recipe(json!({ "type": "shell" })),
            "llm.providers[0].wake.type: expected \"http\" or \"command\" or \"wol\", found another text",
        ),
        (recipe(json!({ "type": "http" })), "llm.providers[0].wake.url: is missing; expected a string"),
        (
            recipe(json!({ "type": "http", "url": "file:///x" })),
            "llm.providers[0].wake.url: expected an address that begins with http:// or https://",
        ),
        (
            recipe(json!({ "type": "http", "url": "http://x", "headers": { "X-A": 5 } })),
            "llm.providers[0].wake.headers.X-A: expected a string, found a number",
        ),
        (
            recipe(json!({ "type": "command" })),
            "llm.providers[0].wake.command: is missing; expected a string",
        ),
        (
            recipe(json!({ "type": "command", "command": "x", "args": ["a", 1] })),
            "llm.providers[0].wake.args[1]: expected a string, found a number",
        ),
        (
            recipe(json!({ "type": "wol", "mac": "00:11:22:33:44" })),
            "llm.providers[0].wake.mac: expected an address such as \"00:11:22:aa:bb:cc\"",
        ),
        (
            with(&json!({ "sleep": { "type": "command", "command": "x" } })),
            "llm.providers[0].sleep: needs a wake recipe beside it: who sleeps must be woken",
        ),
        (
            with(
                &json!({ "availability": { "url": "http://x", "jsonPointer": "is_sleeping", "equals": false } }),
            ),
            "llm.providers[0].availability.jsonPointer: expected a JSON pointer: it begins with '/'",
        ),
        (
            json!({ "providers": [
                { "name": "a", "type": "mock", "publish": true },
                { "name": "b", "type": "mock", "publish": true, "publishName": "a" },
            ] }),
            "providers[1].publishName: 'a' is published by providers[0] already; expected a name of its own",
        ),
        (
            json!({ "agents": [{ "name": "h", "publish": true }] }),
            "agents[0].llm: is missing; expected a string",
        ),
        (
            json!({ "agents": [{ "name": "h", "llm": "a", "publish": true, "defaultParams": [] }] }),
            "agents[0].defaultParams: expected an object, found a list",
        ),
        (json!({ "publisher": { "suffix": 5 } }), "publisher.suffix: expected a string, found a number"),
    ] {
        assert_eq!(errors(&value), [expected], "{value}");
    }
}

#[test]
fn no_error_quotes_a_value_that_may_be_a_secret() {
    let secret = "hunter2 \u{7}x";
    let value = with(&json!({
        "url": format!("ftp://user:{secret}@host"),
        "apiKey": secret,
        "wake": { "type": "http", "url": secret, "headers": { "X-Key": secret } },
    }));
    let said = errors(&value).join("; ");
    assert!(!said.contains("hunter2"), "{said}");
    assert_eq!(errors(&value).len(), 4, "{said}");
}

#[test]
fn an_http_recipe_posts_by_default_and_sends_its_body_as_json() {
    let provider = one(&json!({ "wake": {
        "type": "http", "url": "http://desk:9/wake/", "headers": { "X-Key": "k" }, "body": { "on": true } } }));
    let Action::Http { url, method, headers, body } = provider.wake.unwrap().action else { panic!("http") };
    assert_eq!((url.reveal(), method.as_str()), ("http://desk:9/wake/", "POST"));
    assert_eq!((headers.len(), body.unwrap().reveal()), (1, r#"{"on":true}"#));
}

#[test]
fn a_wake_on_lan_recipe_has_the_usual_broadcast_and_port() {
    let provider = one(&json!({ "wake": { "type": "wol", "mac": "00-11-22-AA-bb-cc" } }));
    let Action::WakeOnLan { mac, broadcast, port } = provider.wake.unwrap().action else { panic!("wol") };
    assert_eq!(mac, [0, 0x11, 0x22, 0xaa, 0xbb, 0xcc]);
    assert_eq!((broadcast.as_str(), port), ("255.255.255.255", 9));
}

/// A configuration file with this text and mode.
fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

#[test]
fn invalid_json_is_reported_with_line_and_column() {
    let (_folder, path) = file("{\n  \"llm\": {,}\n}", 0o600);
    let failure = load(&path).unwrap_err();
    let expected = format!("{}: line 2, column 11: not valid JSON: key must be a string", path.display());
    assert_eq!(failure.text(), Some(expected.as_str()));
}

#[test]
fn a_missing_file_publishes_nothing_and_a_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert!(load(&folder.path().join("none.json")).unwrap().is_empty());
    let failure = load(folder.path()).unwrap_err();
    assert_eq!(
        failure.text().unwrap(),
        format!("cannot read {}: it is not a regular file", folder.path().display())
    );
}

/// A16: a recipe that others could have written is refused.
#[test]
fn a_recipe_in_a_file_that_others_can_write_is_refused() {
    let with_recipe = with(&json!({ "wake": { "type": "command", "command": "true" } })).to_string();
    for mode in [0o620, 0o602, 0o666] {
        let (_folder, path) = file(&with_recipe, mode);
        let text = load(&path).unwrap_err().text().unwrap().to_owned();
        assert!(text.contains("others can write") && text.contains("chmod go-w"), "{text}");
        assert!(text.starts_with(path.to_str().unwrap()), "{text}");
    }
    let (_folder, path) = file(&with_recipe, 0o644);
    load(&path).unwrap();
    let (_folder, path) = file(&with(&json!({})).to_string(), 0o666);
    load(&path).unwrap();
}

#[test]
fn the_first_of_several_errors_is_shown_with_their_number() {
    let (_folder, path) = file(&with(&json!({ "tier": 1, "onAbort": 2, "maxQueue": -1 })).to_string(), 0o600);
    let text = load(&path).unwrap_err().text().unwrap().to_owned();
    assert!(text.ends_with("found a number (and 2 more errors: `virtual-llm check` lists them)"), "{text}");
}
