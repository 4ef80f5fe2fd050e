//! Members that only the owner of the backend may send.

use super::{param, sent};

#[test]
fn server_tools_and_stored_items_are_refused() {
    for (bad, at) in [
        (r#"{"tools":[{"type":"mcp","server_label":"x","server_url":"http://x"}]}"#, "tools"),
        (
            r#"{"tools":[{"type":"function","name":"f"},{"type":"code_interpreter","container":{"type":"auto"}}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"file_search","vector_store_ids":["v"]}]}"#, "tools"),
        (r#"{"tools":[{"type":"computer_use_preview"}]}"#, "tools"),
        (r#"{"tools":[{"type":"web_search_20250305","name":"web_search"}]}"#, "tools"),
        (
            r#"{"tools":[{"type":"web_fetch_20250910","name":"w"},{"name":"Bash","input_schema":{}}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"code_execution_20250825","name":"c"}]}"#, "tools"),
        (r#"{"tools":[{"type":"namespace","name":"n","tools":[{"type":"m\u0063p"}]}]}"#, "tools"),
        (r#"{"tools":[{"googleSearch":{}}]}"#, "tools"),
        (r#"{"tools":["web_search"]}"#, "tools"),
        (r#"{"tools":{"type":"mcp"}}"#, "tools"),
        (r#"{"tools":[{"type":"function","type":"mcp","name":"f"}]}"#, "tools"),
        (r#"{"tools":[{"type":"web_search"}]}"#, "tools"),
        (
            r#"{"tool_choice":"required","tools":[{"type":"function","name":"f"},{"type":"web_search"}]}"#,
            "tools",
        ),
        (r#"{"tools":[{"type":"web_search"}],"tools":[{"type":"function","name":"f"}]}"#, "tools"),
        (r#"{"mcp_servers":[{"type":"url","url":"http://x","name":"x"}]}"#, "mcp_servers"),
        (r#"{"web_search_options":{}}"#, "web_search_options"),
        (r#"{"st\u006fre":true}"#, "st"),
        (r#"{"store":true}"#, "store"),
        (r#"{"background":true}"#, "background"),
        (r#"{"previous_response_id":"resp_1"}"#, "previous_response_id"),
        (r#"{"conversation":{"id":"c"}}"#, "conversation"),
        (r#"{"conversation":"c"}"#, "conversation"),
        (r#"{"prompt":{"id":"p"}}"#, "prompt"),
        (r#"{"container":"c"}"#, "container"),
        (r#"{"kv_transfer_params":{"remote_host":"x"}}"#, "kv_transfer_params"),
    ] {
        assert_eq!(param(bad).as_deref(), Some(at), "{bad}");
    }
}

/// For each of these members there is a server that acts on it.
#[test]
fn members_that_only_servers_define_are_refused() {
    for (bad, at) in [
        (r#"{"metadata":{"mcp_servers":"fs,shell"}}"#, "metadata"),
        (r#"{"fallbacks":["other"]}"#, "fallbacks"),
        (r#"{"mock_testing_fallbacks":true}"#, "mock_testing_fallbacks"),
        (r#"{"models":["openai/gpt-5:online"]}"#, "models"),
        (r#"{"route":"fallback"}"#, "route"),
        (r#"{"preset":"p"}"#, "preset"),
        (r#"{"model_list":[{}]}"#, "model_list"),
        (r#"{"context_window_fallbacks":["x"]}"#, "context_window_fallbacks"),
        (r#"{"context_window_fallback_dict":{"x":"y"}}"#, "context_window_fallback_dict"),
        (r#"{"content_policy_fallbacks":["x"]}"#, "content_policy_fallbacks"),
        (r#"{"tool_servers":[{}]}"#, "tool_servers"),
        (r#"{"plugins":[{"id":"web"}]}"#, "plugins"),
        (r#"{"bootstrap_host":"x"}"#, "bootstrap_host"),
        (r#"{"draft_model":"x"}"#, "draft_model"),
        (r#"{"search_parameters":{"mode":"on"}}"#, "search_parameters"),
        (r#"{"enable_search":true}"#, "enable_search"),
        (r#"{"integrations":["mcp/fs"]}"#, "integrations"),
        (r#"{"data_sources":[{"type":"azure_search"}]}"#, "data_sources"),
        (r#"{"files":[{"type":"collection","id":"x"}]}"#, "files"),
        (r#"{"tool_ids":["t"]}"#, "tool_ids"),
        (r#"{"features":{"code_interpreter":true}}"#, "features"),
        (r#"{"lora_path":"x"}"#, "lora_path"),
        (r#"{"session_params":{"id":"s"}}"#, "session_params"),
        (r#"{"custom_logit_processor":"x"}"#, "custom_logit_processor"),
        (r#"{"id_slot":0}"#, "id_slot"),
        (r#"{"slot_id":3}"#, "slot_id"),
        (r#"{"extra_body":{"google":{"cached_content":"cachedContents/1"}}}"#, "extra_body"),
        (r#"{"extra_body":{"fallbacks":["x"]}}"#, "extra_body"),
        (
            r#"{"extra_body":{"tools":[{"type":"web_search"}]},"tools":[{"type":"function","name":"f"}]}"#,
            "tools",
        ),
        (r#"{"modality":"image","input":["http://x"]}"#, "modality"),
        (r#"{"infinity_extra_modality":["audio"],"input":["http://x"]}"#, "infinity_extra_modality"),
        (r#"{"input":[{"type":"item_reference","id":"msg_1"},{"role":"user","content":"x"}]}"#, "input"),
        (r#"{"prompt":{"prompt_string":"x","multimodal_data":["http://x"]}}"#, "prompt"),
        (r#"{"prompt":[{"id":"p"}]}"#, "prompt"),
        (r#"{"metadata":{"localai_assistant":"true"}}"#, "metadata"),
        (r#"{"Metadata":{"LocalAI_Assistant":"true"}}"#, "Metadata"),
        (r#"{"metadata":{"mcp_resources":"file:///etc/passwd"}}"#, "metadata"),
        (r#"{"metadata":{"mcp_prompt":"p"}}"#, "metadata"),
        (r#"{"metadata":{"disable_global_guardrails":true}}"#, "metadata"),
        (r#"{"metadata":{"x_MCP_x":"p"}}"#, "metadata"),
        (r#"{"metadata":{"an_assistant":true}}"#, "metadata"),
        (r#"{"metadata":{"tags":["gold"]}}"#, "metadata"),
        (r#"{"metadata":{"user_id":{"x":1}}}"#, "metadata"),
        (r#"{"metadata":{"tools":[{"type":"function","name":"f"}]}}"#, "metadata"),
        (r#"{"metadata":{"schema":{"x":1}}}"#, "metadata"),
        (r#"{"metadata":["x"]}"#, "metadata"),
        (r#"{"Metadata":{"user_id":{"x":1}}}"#, "Metadata"),
        (r#"{"client_metadata":{"mcp_prompt":"p"}}"#, "client_metadata"),
        (r#"{"deferred":true}"#, "deferred"),
        (r#"{"backend":"x"}"#, "backend"),
        (
            r#"{"api_key":"x","user_config":{"model_list":[{"model_name":"m","litellm_params":{"model":"openai/gpt-5"}}]}}"#,
            "api_key",
        ),
        (r#"{"user_config":{"model_list":[]}}"#, "user_config"),
        (r#"{"router_settings_override":{"fallbacks":[{"m":["gpt-5"]}]}}"#, "router_settings_override"),
        (r#"{"custom_llm_provider":"deepseek"}"#, "custom_llm_provider"),
        (r#"{"specific_deployment":true}"#, "specific_deployment"),
        (r#"{"model_info":{"id":"1"}}"#, "model_info"),
        (r#"{"litellm_params":{"preset_cache_key":"k"}}"#, "litellm_params"),
        (r#"{"mock_response":"litellm.RateLimitError"}"#, "mock_response"),
        (r#"{"mock_testing_content_policy_fallbacks":true}"#, "mock_testing_content_policy_fallbacks"),
        (r#"{"aws_web_identity_token":"oidc/file//etc/passwd"}"#, "aws_web_identity_token"),
        (r#"{"vertex_credentials":"/etc/passwd"}"#, "vertex_credentials"),
        (r#"{"azure_ad_token":"os.environ/KEY"}"#, "azure_ad_token"),
        (r#"{"langfuse_host":"10.0.0.9","success_callback":["langfuse"]}"#, "langfuse_host"),
        (r#"{"callbacks":["x"]}"#, "callbacks"),
        (r#"{"guardrails":["none"]}"#, "guardrails"),
        (r#"{"extra_headers":{"x":"y"}}"#, "extra_headers"),
        (r#"{"prompt_id":"p"}"#, "prompt_id"),
        (r#"{"adapter_id":"s3/x"}"#, "adapter_id"),
        (r#"{"lora":[{"id":1,"scale":1.0}]}"#, "lora"),
        (r#"{"vllm_xargs":{"kv_transfer_params":"x"}}"#, "vllm_xargs"),
        (r#"{"bootstrap_room":7}"#, "bootstrap_room"),
        (r#"{"rid":"1"}"#, "rid"),
        (r#"{"request_id":"___prefill_addr_10.0.0.9:1"}"#, "request_id"),
        (r#"{"multi_modal_uuids":{"image":["x"]}}"#, "multi_modal_uuids"),
        (r#"{"chat_template":"{% for a in b %}"}"#, "chat_template"),
        (r#"{"chat_template_kwargs":{"chat_template":"x"}}"#, "chat_template_kwargs"),
        (r#"{"ttl":1}"#, "ttl"),
        (r#"{"ttl":-1}"#, "ttl"),
        (r#"{"message_ids":[{"model_id":"other","message_id":"m1"}]}"#, "message_ids"),
        (r#"{"chat_id":"c","parent_id":null,"user_message":{"a":1}}"#, "chat_id"),
        (r#"{"filter_ids":["f"]}"#, "filter_ids"),
    ] {
        assert_eq!(param(bad).as_deref(), Some(at), "{bad}");
    }
    for value in ["1", r#""true""#, r#""on""#, r#""false""#, "[true]", "{}", "{\"a\":1}", "true", "[]"] {
        for key in ["store", "background", "Store", "enable_search"] {
            assert!(param(&format!(r#"{{"{key}":{value}}}"#)).is_some(), "{key} {value}");
        }
    }
}

/// An `extra_body` may be nested or in an array.
#[test]
fn an_extra_body_is_inspected_like_the_request() {
    for bad in [
        r#"{"metadata":{"mcp_prompt":"p","localai_assistant":"true"}}"#,
        r#"{"metadata":{"tags":["gold"]}}"#,
        r#"{"prompt":{"id":"pmpt_1"}}"#,
        r#"{"input":[{"id":"msg_1"}]}"#,
        r#"{"user_config":{"model_list":[]}}"#,
        r#"{"fallbacks":["x"]}"#,
        r#"{"api_key":"k"}"#,
        r#"{"type":"url_citation","url":"http://10.0.0.1/"}"#,
        r#"{"tools":[{"type":"web_search"},{"type":"function","name":"f"}]}"#,
        r#"{"tools":[{"type":"function","name":"f"}],"tool_choice":"auto","store":true}"#,
        r#"{"webhook_url":"http://x"}"#,
    ] {
        let mut bad = bad.to_owned();
        assert!(param(&bad).is_some() || bad.contains("web_search"), "{bad}");
        for wrap in ["extra_body", "Extra_Body", "vllm_xargs", "extra_body"] {
            bad = format!(r#"{{"seed":1,"{wrap}":{bad},"top_k":1}}"#);
            assert!(param(&bad).is_some(), "{bad}");
        }
        let list = format!(r#"{{"extra_body":[{{"metadata":{{"user_id":"x"}},"prompt":"x"}},{bad}]}}"#);
        assert!(param(&list).is_some(), "{list}");
    }
    for good in [
        r#"{"metadata":{"user_id":"x"}}"#,
        r#"{"input":[{"role":"user","content":"x"}]}"#,
        r#"{"response_format":{"schema":{"url":"http://x"}}}"#,
        r#"{"prompt":"http://x"}"#,
    ] {
        let good = format!(
            r#"{{"extra_body":{good},"messages":[],"metadata":{{"user_id":"x"}},"input":[{{"role":"user"}}]}}"#
        );
        assert_eq!(sent(&good), good);
    }
}
