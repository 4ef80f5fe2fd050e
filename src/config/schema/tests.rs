use std::{fs, path::Path};

use super::{
    super::{Environment, Report, keys, read},
    *,
};

/// Validates `value`. Panics at a keyword that it does not implement.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(words) = schema.as_object() else { return schema == &json!(true) };
    words.iter().all(|(word, wanted)| match word.as_str() {
        "$ref" => {
            let path = wanted.as_str().unwrap().strip_prefix('#').unwrap();
            fits(root, root.pointer(path).unwrap(), value)
        }
        "type" => match wanted.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            other => panic!("type {other}"),
        },
        "properties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| wanted.get(key).is_none_or(|schema| fits(root, schema, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| {
                schema["properties"].get(key).is_some()
                    || if wanted == &json!(false) { false } else { fits(root, wanted, value) }
            })
        }),
        "required" => value.as_object().is_none_or(|map| {
            wanted.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
        }),
        "dependencies" => value.as_object().is_none_or(|map| {
            wanted.as_object().unwrap().iter().all(|(key, needed)| {
                !map.contains_key(key)
                    || needed.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            })
        }),
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(root, wanted, item))),
        "enum" => wanted.as_array().unwrap().contains(value),
        "const" => wanted == value,
        "not" => !fits(root, wanted, value),
        "allOf" => wanted.as_array().unwrap().iter().all(|schema| fits(root, schema, value)),
        "if" => !fits(root, wanted, value) || fits(root, &schema["then"], value),
        "minLength" => value.as_str().is_none_or(|text| text.len() as u64 >= wanted.as_u64().unwrap()),
        "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
        "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > wanted.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| match wanted.as_str().unwrap() {
            "^(/|$)" => text.is_empty() || text.starts_with('/'),
            "^\\s*[Hh][Tt][Tt][Pp][Ss]?://" => {
                let text = text.trim_start().to_lowercase();
                text.starts_with("http://") || text.starts_with("https://")
            }
            other => panic!("pattern {other}"),
        }),
        "then" | "$schema" | "$id" | "title" | "description" | "default" | "examples" | "definitions" => true,
        other => panic!("keyword {other}"),
    })
}

fn accepts(config: &Value) -> bool {
    let schema = schema();
    fits(&schema, &schema, config)
}

/// Whether the reader has neither errors nor warnings.
fn is_read(config: &Value) -> bool {
    let environment = Environment { variable: &|_| None, host: &|| "host".to_owned() };
    let mut report = Report::default();
    read(config, &environment, &mut report);
    report.errors.is_empty() && report.warnings.is_empty()
}

fn with(extra: &Value) -> Value {
    let mut provider = json!({ "name": "a", "type": "vllm", "model": "m", "publish": true });
    for (key, value) in extra.as_object().unwrap() {
        provider[key] = value.clone();
    }
    json!({ "llm": { "providers": [provider] } })
}

/// `BLESS=1 cargo test` updates the file.
#[test]
fn the_checked_in_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.schema.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == text,
        "{path:?} is out of date: BLESS=1 cargo test updates it"
    );
}

/// `BLESS=1 cargo test` updates the table.
#[test]
fn the_table_of_the_readme_is_current() {
    const BEGIN: &str = "| key of a provider | meaning (default) |\n| --- | --- |\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let row = |key: &keys::Key| {
        let default = default(&key.value).map_or_else(String::new, |value| {
            format!(" ({})", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        });
        format!("| `{}` | {}{default} |", key.name, key.about)
    };
    let rows: Vec<_> = keys::PROVIDER.iter().map(row).collect();
    let current = format!("{before}{BEGIN}{}\n\n{after}", rows.join("\n"));
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &current).unwrap();
    }
    assert!(
        page == current || fs::read_to_string(&path).unwrap() == current,
        "README.md is out of date: BLESS=1 cargo test updates it"
    );
}

#[test]
fn schema_and_reader_accept_the_same_configurations() {
    let command = json!({ "type": "command", "command": "true" });
    for extra in [
        json!({}),
        json!({ "url": "http://localhost:8000", "apiKey": "k", "tier": "fast", "description": "" }),
        json!({ "publishName": "a-b", "poolName": "p", "visibility": "public", "maxConcurrency": 1, "maxQueue": 0 }),
        json!({ "timeoutSeconds": 0.5, "allowModelOverride": true, "allowRemoteUrls": true, "keepAttribution": true, "onAbort": "drain" }),
        json!({ "wake": command, "sleep": { "type": "command", "command": "x", "args": ["a"], "idleSeconds": 900 } }),
        json!({ "wake": { "type": "http", "url": "http://x/", "method": "PUT", "headers": { "a": "b" }, "body": {} } }),
        json!({ "wake": { "type": "wol", "mac": "aa:bb:cc:dd:ee:ff", "broadcast": "10.0.0.255", "port": 7, "maxWaitSeconds": 1 } }),
        json!({ "availability": { "url": "http://x/", "jsonPointer": "/is_sleeping", "equals": false } }),
        json!({ "contextLength": 8192, "maxOutputTokens": 1, "capabilities": { "tools": true, "vision": false } }),
        json!({ "type": "mock", "tokens": 3, "tokensPerSecond": 0.5, "failEvery": 2, "panicEvery": 9 }),
    ] {
        let config = with(&extra);
        assert!(is_read(&config) && accepts(&config), "{extra}");
    }
    for extra in [
        json!({ "visibilty": "public" }),
        json!({ "maxConcurency": 3 }),
        json!({ "wake": { "type": "command", "command": "true", "comand": "x" } }),
        json!({ "name": null }),
        json!({ "type": "openai" }),
        json!({ "url": "localhost:8000" }),
        json!({ "tier": "slow" }),
        json!({ "contextLength": 0 }),
        json!({ "contextLength": 1_000_000_001 }),
        json!({ "capabilities": ["tools"] }),
        json!({ "capabilities": { "tools": "yes" } }),
        json!({ "visibility": "everybody" }),
        json!({ "publish": "yes" }),
        json!({ "maxConcurrency": 0 }),
        json!({ "maxConcurrency": "four" }),
        json!({ "maxQueue": -1 }),
        json!({ "timeoutSeconds": 0 }),
        json!({ "onAbort": "kill" }),
        json!({ "wake": { "command": "true" } }),
        json!({ "wake": { "type": "http" } }),
        json!({ "wake": { "type": "wol" } }),
        json!({ "wake": command, "sleep": { "type": "wol", "mac": "aa:bb:cc:dd:ee:ff" } }),
        json!({ "sleep": command }),
        json!({ "availability": { "url": "http://x/" } }),
        json!({ "availability": { "url": "http://x/", "jsonPointer": "is_sleeping", "equals": false } }),
        json!({ "type": "mock", "tokensPerSecond": 0 }),
    ] {
        let config = with(&extra);
        assert!(!is_read(&config) && !accepts(&config), "{extra}: {} {}", is_read(&config), accepts(&config));
    }
    let unpublished = json!({ "providers": [{ "name": "later", "publish": false }, {}] });
    assert!(is_read(&unpublished) && accepts(&unpublished));
    let agent =
        |agent: Value| json!({ "$schema": "./config.schema.json", "agents": [agent], "mcpServers": {} });
    for (config, good) in [
        (
            agent(json!({ "name": "h", "llm": "a", "publish": true, "defaultParams": { "temperature": 0 } })),
            true,
        ),
        (agent(json!({ "name": "h", "publish": true })), false),
        (agent(json!({ "name": "h", "llm": "a", "publish": true, "sytemPrompt": "x" })), false),
        (json!({ "publisher": { "suffix": "auto" } }), true),
        (json!({ "publisher": { "sufix": "auto" } }), false),
        (json!([]), false),
    ] {
        assert_eq!((is_read(&config), accepts(&config)), (good, good), "{config}");
    }
}

/// Checks every JSON block in README.md and docs/ that is a configuration or the keys of a provider.
#[test]
fn the_schema_accepts_the_examples_of_the_documentation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    pages.extend(fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut checked = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for block in text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            let configs = if block.trim_start().starts_with('{') {
                vec![serde_json::from_str(block).unwrap_or_else(|error| panic!("{page:?}: {error}: {block}"))]
            } else {
                // Keys of a provider, one a line.
                let keys = block.lines().filter(|line| !line.trim().is_empty());
                keys.map(|line| {
                    let mut provider: Value =
                        serde_json::from_str(&format!("{{ {} }}", line.trim_end_matches(','))).unwrap();
                    if provider.get("sleep").is_some() {
                        provider["wake"] = json!({ "type": "command", "command": "true" });
                    }
                    with(&provider)
                })
                .collect()
            };
            for config in configs.iter().filter(|config| is_a_config(config)) {
                assert!(accepts(config) && is_read(config), "{page:?}: {config}");
                checked += 1;
            }
        }
    }
    assert!(checked >= 6, "only {checked} examples were found");
}

fn is_a_config(value: &Value) -> bool {
    keys::TOP.iter().any(|key| value.get(key.name).is_some())
}
