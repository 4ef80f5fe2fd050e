//! Stored answers, items and media.

use super::{changed, content_part, param};
use crate::task::Endpoint;

#[test]
fn media_cached_under_a_uuid_is_refused() {
    for bad in [
        r#"{"type":"image_url","image_url":null,"uuid":"https://intranet/secret.png"}"#,
        r#"{"uuid":"u","type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}"#,
        r#"{"image_url":{"url":"data:image/png;base64,AA"},"uuid":"u"}"#,
        r#"{"image_url":{"url":null,"uuid":"u"}}"#,
        r#"{"type":"input_audio","input_audio":{"data":"AA","format":"wav"},"uuid":"u"}"#,
        r#"{"type":"audio_url","audio_url":null,"\u0075uid":"u"}"#,
        r#"{"type":"video_url","UUID":"u"}"#,
        r#"{"type":"image_embeds","image_embeds":null,"uuid":"u"}"#,
        r#"{"audio_embeds":null,"uuid":"u"}"#,
        r#"{"type":"image_pil","image_pil":null,"uuid":7}"#,
        r#"{"type":"input_image","uuid":["u"]}"#,
    ] {
        assert_eq!(param(&content_part(bad)).as_deref(), Some("messages"), "{bad}");
        let item = format!(r#"{{"input":[{{"role":"user","content":[{bad}]}}]}}"#);
        assert_eq!(param(&item).as_deref(), Some("input"), "{bad}");
    }
    for good in [
        r#"{"type":"text","text":"x","uuid":"u"}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"},"uuid":null}"#,
        r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"},"uuid":""}"#,
        r#"{"type":"tool_use","id":"t","name":"f","input":{"uuid":"u","image":"x"},"uuid":"u"}"#,
    ] {
        assert_eq!(param(&content_part(good)), None, "{good}");
    }
    let ranked = r#"{"documents":[{"text":"t","uuid":"u","file_path":"/a/b"}]}"#;
    assert_eq!(param(ranked), None);
}

#[test]
fn an_item_with_only_an_id_is_a_reference() {
    for bad in [
        r#"{"id":"msg_1"}"#,
        r#"{"id":"msg_1","type":null}"#,
        r#"{"type":null,"id":"msg_1","status":"completed","x":1}"#,
        r#"{"id":"msg_1","role":null,"content":null}"#,
        r#"{"type":"message","id":"msg_1","type":null}"#,
        r#"{"ID":"msg_1","type":7}"#,
        r#"{"type":"image_generation_call","id":"ig_1"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","status":"completed","result":null}"#,
        r#"{"type":"image_generation_call","id":"ig_1","quality":"low"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","content":"x","result":""}"#,
        r#"{"id":"msg_1","type":""}"#,
    ] {
        let request = format!(r#"{{"input":[{bad},{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(param(&request).as_deref(), Some("input"), "{bad}");
        assert_eq!(param(&format!(r#"{{"input":{bad}}}"#)).as_deref(), Some("input"), "{bad}");
        assert_eq!(param(&format!(r#"{{"messages":[{bad}]}}"#)), None, "{bad}");
    }
    for good in [
        r#"{"id":"msg_1","role":"assistant","content":"x"}"#,
        r#"{"id":"msg_1","content":[]}"#,
        r#"{"id":"","x":1}"#,
        r#"{"id":"1","text":"t"}"#,
        r#"{"id":"1","image":"data:,"}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[]}"#,
        r#"{"type":"web_search_call","id":"ws_1","status":"completed"}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}"}"#,
        r#"{"type":"image_generation_call","id":"ig_1","result":"AA"}"#,
        r#"{"role":"user","content":[{"id":"x"}]}"#,
    ] {
        assert_eq!(param(&format!(r#"{{"input":[{good}]}}"#)), None, "{good}");
    }
}

/// OpenAI's servers store every response by default.
#[test]
fn a_response_is_not_stored_unless_the_request_says_so() {
    for (request, sent) in [
        (r#"{"input":"x"}"#, Some(r#"{"store":false,"input":"x"}"#)),
        (" {\n\"input\" : 1} ", Some(" {\"store\":false,\n\"input\" : 1} ")),
        (
            r#"{"store":null,"input":"x","store" : null}"#,
            Some(r#"{"store":false,"input":"x","store" : false}"#),
        ),
        (
            r#"{"Store":false,"options":{"store":false}}"#,
            Some(r#"{"store":false,"options":{"store":false}}"#),
        ),
        (r#"{"st\u006fre":false}"#, None),
        (r#"{"store":false}"#, None),
        (r#"{"store":false,"input":"x"}"#, None),
        (r#"{"input":"x","store":false}"#, None),
        // Another spelling is another member.
        (r#"{"store_":false}"#, Some(r#"{"store":false}"#)),
        (r#"{"_store":false}"#, Some(r#"{"store":false}"#)),
        (r#"{"s_tore":null}"#, Some(r#"{"store":false}"#)),
        (r#"{"s\u005ftore":null,"store":null}"#, Some(r#"{"store":false}"#)),
        (r#"{"STORE":null}"#, Some(r#"{"store":false}"#)),
        (r#"{"store":false,"Store":null}"#, Some(r#"{"store":false}"#)),
        (r#"{"store":false,"\u017ftore":null}"#, Some(r#"{"store":false}"#)),
        (
            r#"{"store":false,"extra_body":{"store":null}}"#,
            Some(r#"{"store":false,"extra_body":{"store":false}}"#),
        ),
        (r#"{"extra_body":{"store":false}}"#, Some(r#"{"store":false,"extra_body":{"store":false}}"#)),
        (r#"{"unheard":{"store":true}}"#, Some(r#"{"store":false}"#)),
        (r#"{"unheard":[1],"input":"x"}"#, Some(r#"{"store":false,"input":"x"}"#)),
    ] {
        assert_eq!(changed(request, Endpoint::Responses).as_deref(), sent);
    }
    assert_eq!(changed(r#"{"messages":[]}"#, Endpoint::ChatCompletions), None);
}
