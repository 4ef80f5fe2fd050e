use super::super::target::target;
use super::*;

fn setting(plan: &Plan, name: &str) -> Option<String> {
    let (_, value) = plan.set.iter().find(|(set, _)| *set == name)?;
    Some(match value {
        Setting::Text(text) => text.to_string_lossy().into_owned(),
        Setting::Token => "(token)".to_owned(),
        Setting::File(index) => format!("(file {index})"),
    })
}

fn words(plan: &Plan) -> Vec<String> {
    let word = |arg: &Arg| match arg {
        Arg::Text(text) => text.to_string_lossy().into_owned(),
        Arg::File(index) => format!("(file {index})"),
    };
    plan.args.iter().map(word).collect()
}

#[test]
fn an_answer_has_at_most_a_quarter_of_the_context() {
    for (context, output) in [(32_768, "8192"), (1_000_000, "32000")] {
        let plan = claude(&target("qwen", Some(context)));
        assert_eq!(setting(&plan, "CLAUDE_CODE_MAX_CONTEXT_TOKENS").unwrap(), context.to_string());
        assert_eq!(setting(&plan, "CLAUDE_CODE_MAX_OUTPUT_TOKENS").unwrap(), output);
    }
    assert_eq!(setting(&claude(&target("qwen", None)), "CLAUDE_CODE_MAX_OUTPUT_TOKENS"), None);
}

#[test]
fn an_answer_is_not_longer_than_the_model_allows() {
    for (context, max_output, output) in [
        (Some(65_536), Some(4_096), "4096"),
        (Some(8_192), Some(4_096), "2048"),
        (None, Some(4_096), "4096"),
        (None, Some(200_000), "32000"),
    ] {
        let mut target = target("qwen", context);
        target.abilities.max_output = max_output;
        assert_eq!(setting(&claude(&target), "CLAUDE_CODE_MAX_OUTPUT_TOKENS").unwrap(), output);
        assert_eq!(setting(&qwen(&target), "QWEN_CODE_MAX_OUTPUT_TOKENS").unwrap(), output);
    }
    let mut target = target("qwen", Some(65_536));
    target.abilities.max_output = Some(4_096);
    let config: Value =
        serde_json::from_str(&setting(&opencode(&target), "OPENCODE_CONFIG_CONTENT").unwrap()).unwrap();
    assert_eq!(config["provider"]["virtual-llm"]["models"]["qwen"]["limit"]["output"], 4_096);
    let metadata: Value = serde_json::from_str(&aider(&target).files[0].text).unwrap();
    assert_eq!(metadata["openai/qwen"]["max_output_tokens"], 4_096);
}

#[test]
fn codex_gets_toml_values() {
    let words = words(&codex(&target("a\"b/c", Some(65_536))));
    for word in [
        r#"model="a\"b/c""#,
        r#"model_providers.virtual-llm.base_url="https://h/v1""#,
        r#"model_providers.virtual-llm.env_key="VIRTUAL_LLM_TOKEN""#,
        "model_context_window=65536",
    ] {
        assert!(words.contains(&word.to_owned()), "{word}: {words:?}");
    }
}

#[test]
fn the_users_own_opencode_configuration_is_kept() {
    let own = json!({ "theme": "x", "model": "other/m", "agent": { "build": { "temperature": 1, "model": "o/m" } },
        "provider": { "other": {} } });
    let target = Target { opencode_config: Some(own.to_string()), ..target("a/b", Some(40_000)) };
    let config: Value =
        serde_json::from_str(&setting(&opencode(&target), "OPENCODE_CONFIG_CONTENT").unwrap()).unwrap();
    assert_eq!(config["theme"], "x");
    assert_eq!(config["model"], "virtual-llm/a/b");
    assert_eq!(config["agent"]["build"], json!({ "temperature": 1, "model": "virtual-llm/a/b" }));
    let limit = &config["provider"]["virtual-llm"]["models"]["a/b"]["limit"];
    assert_eq!(*limit, json!({ "context": 40_000, "output": 10_000 }));
    assert!(config["provider"]["other"].is_object());
}

#[test]
fn no_plan_has_a_token_in_its_arguments_or_files() {
    for agent in [
        CodingAgent::Claude,
        CodingAgent::Codex,
        CodingAgent::Opencode,
        CodingAgent::Qwen,
        CodingAgent::Aider,
    ] {
        let plan = plan(agent, &target("qwen", Some(65_536)));
        assert!(plan.set.iter().any(|(_, value)| matches!(value, Setting::Token)), "{agent:?}");
        assert!(plan.files.iter().all(|file| !file.text.contains("key")), "{agent:?}");
        assert!(words(&plan).iter().all(|word| !word.contains("api-key")), "{agent:?}");
    }
}
