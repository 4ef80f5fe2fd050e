//! Members of `metadata`: of callers who are not the owner, two names are sent.

use super::{param, sent};

/// A gateway reads hosts, keys and callbacks from the metadata, under names that grow with each release.
#[test]
fn of_the_metadata_the_names_that_agents_send_are_kept() {
    for value in ["\"x\"", "\"http://x\"", "\"os.environ/KEY\"", "1", "true", "null", "\"\""] {
        for name in [
            "langsmith_base_url",
            "langsmith_api_key",
            "slack_webhook_url",
            "gcs_bucket_name",
            "arize_api_key",
            "dd_agent_host",
            "turn_off_message_logging",
            "store",
            "model",
            "a",
            "",
            "User_Id",
            "user_id ",
            "é",
        ] {
            for within in ["metadata", "client_metadata"] {
                let pairs = [
                    (format!(r#"{{"{name}":{value}}}"#), "{}".to_owned()),
                    (format!(r#"{{"{name}":{value},"user_id":"u"}}"#), r#"{"user_id":"u"}"#.to_owned()),
                    (
                        format!(r#"{{"user_id":"u","{name}":{value},"{name}":2}}"#),
                        r#"{"user_id":"u"}"#.to_owned(),
                    ),
                ];
                for (metadata, kept) in pairs {
                    let request = format!(r#"{{"seed":1,"{within}":{metadata},"messages":[]}}"#);
                    assert_eq!(
                        sent(&request),
                        format!(r#"{{"seed":1,"{within}":{kept},"messages":[]}}"#),
                        "{request}"
                    );
                    let request = format!(r#"{{"extra_body":{{"{within}":{metadata},"seed":1}}}}"#);
                    assert_eq!(
                        sent(&request),
                        format!(r#"{{"extra_body":{{"{within}":{kept},"seed":1}}}}"#),
                        "{request}"
                    );
                }
            }
        }
    }
}

/// `LiteLLM` parses a text in the place of the metadata.
#[test]
fn a_text_in_the_place_of_an_object_is_refused() {
    for name in ["metadata", "client_metadata", "extra_body", "options", "vllm_xargs", "chat_template_kwargs"]
    {
        for text in [r#""{\"mcp_servers\":[]}""#, r#""x""#, r#""\u007b\u007d""#] {
            for request in [
                format!(r#"{{"{name}":{text}}}"#),
                format!(r#"{{"extra_body":[{{"seed":1}},{{"{name}":{text}}}]}}"#),
            ] {
                assert!(param(&request).is_some(), "{request}");
            }
        }
    }
    assert_eq!(param(r#"{"extra_body":["{}"]}"#).as_deref(), Some("extra_body"));
    assert_eq!(param(r#"{"stop":["{}"],"messages":[],"user":"{}"}"#), None);
}
