//! Requests that pass unchanged.

use super::{changed, content_part, param};
use crate::task::Endpoint;

#[test]
fn text_that_mentions_urls_and_tools_passes() {
    for good in [
        content_part(r#"{"type":"text","text":"fetch http://10.0.0.1 by mcp, store: true"}"#),
        content_part(r#"{"type":"image_url","image_url":{"url":"DATA:image/png;base64,/9j/4AAQ","detail":"auto"}}"#),
        content_part(r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"/9j/4AAQ"}}"#),
        content_part(r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"see: http://x"}}"#),
        content_part(r#"{"type":"input_audio","input_audio":{"data":"/9j/4AAQ","format":"wav"}}"#),
        content_part(r#"{"type":"file","file":{"filename":"a:b.pdf","file_data":"data:application/pdf;base64,AA"}}"#),
        content_part(r#"{"type":"tool_use","id":"t","name":"WebFetch","input":{"url":"https://x","image":"http://y"}}"#),
        content_part(r#"{"type":"text","text":"x","citations":[{"url":"https://x"}]}"#),
        content_part(r#"{"type":"web_search_result","url":"https://x","title":"t","encrypted_content":"e"}"#),
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"url":"http://x"}}}]}]}"#.into(),
        r#"{"input":[{"type":"message","content":[{"type":"output_text","text":"x","annotations":[{"type":"url_citation","url":"http://x"}]}]}]}"#.into(),
        r#"{"input":[{"type":"web_search_call","action":{"type":"open_page","url":"http://x"}}]}"#.into(),
        r#"{"input":"http://x","instructions":"use mcp","store":false,"background":false}"#.into(),
        r#"{"input":["http://x","file:///y"],"model":"http://x"}"#.into(),
        r#"{"prompt":["http://x"],"previous_response_id":null,"conversation":null,"mcp_servers":[]}"#.into(),
        r#"{"query":"q","documents":["http://x",{"text":"t","url":"https://x","title":"t"}]}"#.into(),
        r#"{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"image_url":{"type":"string","default":"http://x"},"tools":{"type":"mcp"}}}}}]}"#.into(),
        r#"{"tools":[{"type":"custom","name":"mcp"},{"name":"web_search","input_schema":{"type":"object"}},{"type":"computer_20250124","name":"c"},{"type":"text_editor_20250728","name":"e"},{"type":"local_shell"}]}"#.into(),
        r#"{"response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"url":{"const":"http://x"}}}}},"metadata":{"user_id":"http://x"}}"#.into(),
        r#"{"text":{"format":{"schema":{"url":"http://x"}}},"tool_choice":{"type":"function","name":"f"}}"#.into(),
        r#"{"system":[{"type":"text","text":"http://x","cache_control":{"type":"ephemeral"}}]}"#.into(),
    ] {
        assert_eq!(param(&good), None, "{good}");
        assert_eq!(changed(&good, Endpoint::ChatCompletions), None, "{good}");
    }
}

/// Every member that the SDKs can send, in one request each.
#[test]
fn requests_of_the_official_sdks_pass() {
    for good in [
        // OpenAI.
        r#"{"model":"org/m","messages":[],"audio":{"format":"wav","voice":"alloy"},"frequency_penalty":0,"function_call":{"name":"f"},
            "functions":[{"name":"f","parameters":{}}],"logit_bias":{"50256":-100},"logprobs":true,"max_completion_tokens":1,
            "metadata":{"user_id":"http://x"},"modalities":["text","audio"],"n":1,"parallel_tool_calls":true,
            "prediction":{"type":"content","content":"x"},"presence_penalty":0,"prompt_cache_key":"a:b/c","reasoning_effort":"low",
            "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{}}},"safety_identifier":"a:b","seed":1,
            "service_tier":"auto","stop":["\n\n","</s>"],"store":false,"stream":true,"stream_options":{"include_usage":true},
            "temperature":1,"tool_choice":{"type":"function","function":{"name":"f"}},"tools":[{"type":"function","function":{"name":"f"}}],
            "top_logprobs":1,"top_p":1,"user":"https://x/me","verbosity":"low"}"#,
        r#"{"prompt":[[1,2],[3]],"suffix":"a/b:c\n","best_of":1,"echo":true,"stop":"//","logit_bias":{"1":1},"logprobs":1}"#,
        r#"{"input":["a","b"],"dimensions":256,"encoding_format":"base64","user":"u"}"#,
        r#"{"input":[{"role":"user","content":"x"}],"instructions":"do: a/b\nc","include":["reasoning.encrypted_content"],"max_output_tokens":1,
            "max_tool_calls":1,"reasoning":{"effort":"low","summary":"auto"},"text":{"format":{"type":"json_schema","schema":{}},"verbosity":"low"},
            "tools":[],"tool_choice":"auto","truncation":"auto","context_management":[{"type":"compaction","compact_threshold":9}],
            "client_metadata":{"x-codex-installation-id":"a"},"prompt_cache_retention":"24h","stream_options":{"include_obfuscation":false}}"#,
        // Anthropic.
        r#"{"messages":[],"max_tokens":1,"system":[{"type":"text","text":"x"}],"stop_sequences":["a:/"],"thinking":{"type":"enabled","budget_tokens":9},
            "metadata":{"user_id":"{\"device_id\":\"5f\"}"},"context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},
            "output_config":{"effort":"high","format":{"type":"json_schema","schema":{}}},"cache_control":{"type":"ephemeral"},"top_k":1,
            "tool_choice":{"type":"auto"},"tools":[{"name":"f","input_schema":{}}],"anthropic_beta":["x-2025-01-01"],"anthropic_version":"vertex-2023-10-16"}"#,
        // vLLM, SGLang, llama.cpp, Ollama, TGI and others.
        r#"{"messages":[],"chat_template_kwargs":{"enable_thinking":false},
            "structured_outputs":{"regex":"a/b:c"},"guided_choice":["a","b"],"guided_regex":"^a/b:\\d$","guided_grammar":"root ::= x","stop_token_ids":[1],
            "allowed_token_ids":[1],"bad_words":["x"],"documents":[{"text":"t"}],"vllm_xargs":{"top_k":1},"min_p":0.1,"ignore_eos":true,
            "repetition_detection":{"max_pattern_size":2},"include_reasoning":true,"return_token_ids":true,"prompt_logprobs":1}"#,
        r#"{"messages":[],"regex":"a/b:","ebnf":"root ::= x","json_schema":{"type":"object"},"separate_reasoning":true,"stop_regex":["a/b"]}"#,
        r#"{"messages":[],"samplers":["top_k","min_p"],"dry_sequence_breakers":["\n",":"],"dry_multiplier":0.8,"grammar":"root ::= \"a\"","logit_bias":[[15043,1.0]],
            "grammar_triggers":[{"type":0,"value":"x"}],"preserved_tokens":["<x>"],"n_probs":1,"cache_prompt":true,"speculative.n_max":4,
            "reasoning_format":"none","reasoning_budget_message":"enough: stop.","timings_per_token":true,"response_fields":["content"],"mirostat":0}"#,
        r#"{"messages":[],"options":{"num_ctx":8192,"stop":["x"]},"format":{"type":"object"},"think":"high"}"#,
        r#"{"messages":[],"grammar":{"type":"json","value":{"a":1}},"guideline":"be: brief/short","tool_prompt":"these: tools"}"#,
        r#"{"messages":[],"thinking":{"type":"disabled"},"usage":{"include":true},"transforms":["middle-out"],"reasoning":{"effort":"low"},"enable_thinking":true,
            "random_seed":1,"safe_prompt":false,"prompt_mode":"reasoning"}"#,
        // Rerank servers.
        r#"{"query":"what: a/b?","documents":["a","b"],"top_n":1,"return_documents":true,"rank_fields":["text"],"max_chunks_per_doc":9,"truncate":"END"}"#,
        r#"{"query":{"content":[{"type":"text","text":"x"}]},"texts":["a"],"raw_scores":true,"instruction":"rank: a/b"}"#,
        // Open WebUI's plain request, LangChain's, the Vercel AI SDK's.
        r#"{"stream":true,"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}}"#,
        r#"{"text_format":"{\"a\": /x/}","allowed_tools":["f"],"grammar_json_functions":{"oneOf":[]},"chat_template_args":{"enable_thinking":true},"embedding_type":["float"],"messages":[]}"#,
        r#"{"messages":[],"diagnostics":{"previous_message_id":"msg_1"}}"#,
        r#"{"messages":[{"content":"x","role":"user"}],"model":"m","n":1,"stream":false,"temperature":0.7,"stop":null,"tool_choice":"auto"}"#,
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}],"tools":[],"tool_choice":"auto","stream":true}"#,
    ] {
        assert_eq!(param(good), None, "{good}");
        assert_eq!(changed(good, Endpoint::ChatCompletions), None, "{good}");
    }
}

#[test]
fn plain_requests_of_other_servers_pass() {
    for good in [
        r#"{"query":"q","documents":[{"text":"t","source_url":"https://x","path":"/a/b","tools":"saw","store":1}]}"#,
        r#"{"messages":[],"guided_json":{"examples":[{"url":"http://x"}]}}"#,
        r#"{"messages":[],"structured_outputs":{"json":{"examples":[{"url":"http://x"}]}}}"#,
        r#"{"messages":[],"json_schema":{"const":{"image":"/a/b"}}}"#,
        r#"{"prompt":{"prompt_string":"x","multimodal_data":["aGk="]}}"#,
        r#"{"prompt":[{"prompt_string":"x"},"y",[1,2]]}"#,
        r#"{"messages":[{"role":"assistant","content":"x","search_results":[{"url":"https://x"}]}]}"#,
        r#"{"modality":"text","input":["http://x"]}"#,
        r#"{"mcp_servers":[],"container":null,"background":false,"previous_response_id":null}"#,
        r#"{"extra_body":{"google":{"thinking_config":{"include_thoughts":true}},"guided_json":{"url":"http://x"}}}"#,
        r#"{"min_p":0.1,"top_k":20,"chat_template_kwargs":{"enable_thinking":false},"cache_prompt":true,"priority":1}"#,
        r#"{"cache_salt":"s","grammar":"root ::= x","prompt_cache_key":"k","prompt_cache_retention":"24h","safety_identifier":"s","service_tier":"auto","user":"u","vllm_xargs":{"top_k":1},"n_cache_reuse":1,"chat_template_kwargs":{"documents":["x"]}}"#,
        r#"{"metadata":"","extra_body":null,"options":{},"vllm_xargs":[],"chat_template_kwargs":null}"#,
    ] {
        assert_eq!(param(good), None, "{good}");
        assert_eq!(changed(good, Endpoint::ChatCompletions), None, "{good}");
    }
    // Documents with pictures are inspected like media.
    for bad in [
        r#"{"documents":[{"image":"http://x"}]}"#,
        r#"{"documents":[{"image_url":"http://x"}]}"#,
        r#"{"documents":{"content":[{"type":"image_url","image_url":{"url":"http://x"}}]}}"#,
    ] {
        assert_eq!(param(bad).as_deref(), Some("documents"), "{bad}");
    }
}
