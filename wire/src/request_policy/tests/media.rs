//! Locations that a server would fetch or open: URLs and paths, mostly in media and files.

use super::{PolicyReport, content_part, param, refusal};

#[test]
fn a_url_is_refused_wherever_an_api_fetches_one() {
    for bad in [
        content_part(r#"{"type":"image_url","image_url":{"url":"ftp://10.0.0.1/x.png"}}"#),
        content_part(r#"{"type":"image_url","image_url":"//nas/x.png"}"#),
        content_part(r#"{"type":"image_url","image\u005furl":{"\u0075rl":"\u0068ttp://x"}}"#),
        content_part(r#"{"image_url":{"url":"FILE:///etc/passwd"}}"#),
        content_part(r#"{"type":"video_url","video_url":{"url":" gopher://x"}}"#),
        content_part(r#"{"type":"input_audio","input_audio":{"data":"https://x/y.wav","format":"wav"}}"#),
        content_part(r#"{"type":"file","file":{"file_data":"https://x/y.pdf"}}"#),
        content_part(r#"{"type":"file","file":{"file_id":"file-1"}}"#),
        content_part(r#"{"type":"image","source":{"type":"url","url":"https://x"}}"#),
        content_part(r#"{"type":"document","source":{"type":"file","file_id":"f"}}"#),
        content_part(
            r#"{"type":"tool_result","content":[{"type":"image","source":{"url":"http://x","type":"url"}}]}"#,
        ),
        content_part(
            r#"{"type":"url_citation","url":"a","type":"image_url","image_url":{"url":"http://x"}}"#,
        ),
        r#"{"messages":[{"role":"user","content":"x","images":["http://x/y.png"]}]}"#.into(),
        r#"{"input":[{"role":"user","content":[{"type":"input_image","image_url":"http://x"}]}]}"#.into(),
        r#"{"input":[{"type":"message","content":[{"type":"input_file","file_url":"http://x"}]}]}"#.into(),
        r#"{"input":[{"type":"function_call_output","output":[{"type":"input_image","file_id":"f"}]}]}"#
            .into(),
        r#"{"input":[{"type":"input_image","image_url":["http://x"]}]}"#.into(),
        r#"{"input":[{"image":"https://x/y.jpg"}]}"#.into(),
        r#"{"documents":[{"content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#.into(),
        r#"{"webhook_url":"http://x"}"#.into(),
        r#"{"base_url":"http://x","type":"search_result"}"#.into(),
    ] {
        assert!(param(&bad).is_some(), "{bad}");
    }
    let picture = content_part(r#"{"type":"image_url","image_url":{"url":"http://x"}}"#);
    assert_eq!(
        refusal(&PolicyReport::of(&picture).unwrap()).unwrap().text("a"),
        "'messages' asks 'a' to fetch an address: send a data: URL; only the LLM's owner may, and can allow it \
         (allowRemoteUrls)"
    );
}

/// URL parsers skip leading blanks.
#[test]
fn leading_blanks_do_not_hide_a_url() {
    for blank in [" ", r"\t", r"\n", r"\u0020", r"\u0000"] {
        for count in [1, 63, 64, 65, 4000] {
            let blanks = blank.repeat(count);
            for scheme in ["http://10.0.0.1", r"\u0068ttp:\/\/x", "x"] {
                let url = format!(r#"{{"image_url":{{"url":"{blanks}{scheme}"}}}}"#);
                assert_eq!(param(&content_part(&url)).as_deref(), Some("messages"), "{count} {blank:?}");
            }
            let image = format!(r#"{{"image":"{blanks}http://x"}}"#);
            assert!(param(&content_part(&image)).is_some(), "{count} {blank:?}");
            let data = format!(r#"{{"image_url":{{"url":"{blanks}data:image\/png;base64,AA"}}}}"#);
            assert_eq!(param(&content_part(&data)), None);
            assert_eq!(param(&content_part(&format!(r#"{{"image_url":{{"url":"{blanks}"}}}}"#))), None);
        }
    }
}

/// Some servers open a file if the data of media is a path.
#[test]
fn a_path_is_not_inline_data() {
    let long = "A/".repeat(20_000);
    for path in [
        "/home/alice/private.png",
        "/etc/passwd",
        "//nas/share/x",
        r"\\\\10.0.0.9\\share\\x",
        "secret.png",
        "../x",
        "~/x",
        "C:\\\\x",
        "/9k/x",
        r"\/etc\/passwd",
        &"A".repeat(100).replace("AA", "A/").replace("A/A", "A/../"),
        &format!("{}.png", &long[..20_000]),
    ] {
        for place in [
            format!(r#"{{"input":[{{"image":"{path}"}}]}}"#),
            format!(r#"{{"messages":[{{"role":"user","content":"x","images":["{path}"]}}]}}"#),
            content_part(&format!(
                r#"{{"type":"input_audio","input_audio":{{"data":"{path}","format":"wav"}}}}"#
            )),
            content_part(&format!(r#"{{"type":"file","file":{{"file_data":"{path}"}}}}"#)),
        ] {
            assert!(param(&place).is_some(), "{place}");
        }
    }
    for data in [
        "",
        "aGVsbG8=",
        "/9j/4AAQ",
        r"\/9j\/4AAQ",
        r"iVBO\r\nRw0K",
        "a-b_c",
        " aGVs",
        &long,
        &format!("/{long}"),
        &format!(r"\/{long}"),
    ] {
        assert_eq!(param(&format!(r#"{{"input":[{{"image":"{data}"}}]}}"#)), None, "{data:.80}");
    }
}

#[test]
fn a_citation_type_permits_only_its_own_url() {
    for bad in [
        r#"{"type":"x_citation","uuid":"1","image_url":"http://x"}"#,
        r#"{"type":"x_location","file_url":"file:///etc/passwd"}"#,
        r#"{"type":"search_result","video_url":"http://x"}"#,
        r#"{"type":"x_citation","url":"http://x"}"#,
        r#"{"type":"image_url","image_url":{"type":"url_citation","url":"http://x"}}"#,
        r#"{"type":"image_url","image_url":[{"type":"url_citation","url":"http://x"}]}"#,
        r#"{"type":"image","path":"http://x"}"#,
        r#"{"type":"image","path":"secret"}"#,
        r#"{"type":"image","data":"/etc/passwd"}"#,
        r#"{"data":"http://x","type":"input_audio"}"#,
        r#"{"source":"http://x","type":"input_video"}"#,
        r#"{"type":"image","image_urls":["http://x"]}"#,
        r#"{"input_image":"http://x"}"#,
        r#"{"the_address_of_the_second_picture_in_a_row_image_url":"http://x"}"#,
        r#"{"the_addresses_of_the_pictures_in_a_row_ImageUrls":["http://x"]}"#,
        r#"{"image":{"path":"/etc/passwd"}}"#,
    ] {
        assert_eq!(param(&content_part(bad)).as_deref(), Some("messages"), "{bad}");
    }
    for good in [
        r#"{"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"x"}]}"#,
        r#"{"type":"web_fetch_tool_result","content":{"type":"web_fetch_result","url":"https://x"}}"#,
        r#"{"type":"apply_patch_call","operation":{"type":"update_file","path":"lib/fib.py","diff":"d"}}"#,
    ] {
        assert_eq!(param(&content_part(good)), None, "{good}");
    }
}

#[test]
fn a_location_in_a_file_is_refused_under_any_name() {
    for place in [
        "http://169.254.169.254/x",
        "s3://x/y",
        "file:/etc/passwd",
        "//nas/x",
        "/etc/passwd",
        "~/x",
        r"C:\\x",
        r"\u0068ttp:\/\/x",
        r"\n /etc/passwd",
        r"\\\\10.0.0.9\\x",
    ] {
        for kind in
            ["image", "image_path", "audio_file", "pdf", "document", "file", "file_path", "media", "PDF"]
        {
            for name in
                ["src", "link", "location", "image_path", "file_path", "pdf", "document", "href", "Unheard"]
            {
                for bad in [
                    format!(r#"{{"{name}":"{place}","type":"{kind}"}}"#),
                    format!(r#"{{"type":"{kind}","{name}":["{place}"]}}"#),
                    format!(r#"{{"type":"{kind}","x":{{"y":[{{"{name}":"{place}"}}]}}}}"#),
                    format!(r#"{{"type":"text","type":"{kind}","type":"x","{name}":"{place}"}}"#),
                ] {
                    assert_eq!(param(&content_part(&bad)).as_deref(), Some("messages"), "{bad}");
                }
                let attached = format!(
                    r#"{{"messages":[{{"role":"user","content":"x","attachments":[{{"{name}":"{place}"}}]}}]}}"#
                );
                assert_eq!(param(&attached).as_deref(), Some("messages"), "{attached}");
            }
            for name in ["text", "title", "context", "name", "file_name", "filename", "revised_prompt"] {
                let good = format!(r#"{{"type":"{kind}","{name}":"{place}","x":{{"{name}":"{place}"}}}}"#);
                assert_eq!(param(&content_part(&good)), None, "{good}");
            }
        }
        for attached in [format!(r#"["{place}"]"#), format!(r#""{place}""#), format!(r#"{{"x":"{place}"}}"#)]
        {
            let bad = format!(r#"{{"messages":[{{"content":"x","attachments":{attached}}}]}}"#);
            assert!(param(&bad).is_some(), "{bad}");
        }
        for good in [
            format!(r#"{{"type":"text","src":"{place}"}}"#),
            format!(r#"{{"type":"tool_result","content":"{place}","cwd":"{place}"}}"#),
            format!(
                r#"{{"type":"document","source":{{"type":"text","data":"{place}"}},"context":"{place}"}}"#
            ),
            format!(
                r#"{{"type":"document","source":{{"type":"content","content":[{{"type":"text","text":"{place}"}}]}}}}"#
            ),
        ] {
            assert_eq!(param(&content_part(&good)), None, "{good}");
        }
        let documents = format!(
            r#"{{"documents":[{{"type":"pdf","text":"t","path":"{place}","src":"{place}","attachments":["{place}"]}}]}}"#
        );
        assert_eq!(param(&documents), None, "{documents}");
    }
    for good in [
        r#"{"type":"image","src":"data:image/png;base64,AA","format":"image/png","detail":"high/low"}"#,
        r#"{"type":"file","file":{"filename":"/home/a/b.pdf","file_data":"data:application/pdf;base64,AA"}}"#,
        r#"{"type":"image","image_embeds":"/9j/4AAQ","media_type":"image/jpeg","x":"a: b"}"#,
    ] {
        assert_eq!(param(&content_part(good)), None, "{good}");
    }
}

#[test]
fn an_array_under_input_is_inspected() {
    let of = |input: &str| content_part(&format!(r#"{{"type":"tool_use","input":{input}}}"#));
    assert_eq!(param(&of(r#"{"image_url":"http://x"}"#)), None);
    assert!(param(&of(r#"[{"image_url":"http://x"}]"#)).is_some());
}

/// Servers differ in which of two `type` members they read.
#[test]
fn a_repeated_type_exempts_nothing() {
    for types in [["url_citation", "image_url"], ["url_citation", "x"]] {
        for [first, second] in [types, [types[1], types[0]]] {
            let twice = content_part(&format!(r#"{{"type":"{first}","type":"{second}","url":"http://x"}}"#));
            assert!(param(&twice).is_some(), "{twice}");
        }
    }
}
