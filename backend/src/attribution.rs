//! Drops the attribution line from the system text of a Messages request.
//!
//! Claude Code puts a line for Anthropic's billing in front of its system text. It differs in each session and call, so a
//! backend that is not Anthropic's could not reuse its prefix cache: it would read the whole prompt anew each time.

use memchr::memmem;
use wire::json::{Object, each_element, quote, unquote};
use wire::task::Endpoint;

use crate::offload::offload;
use crate::{BackendError, BackendRequest};

/// Begins the attribution line.
const PREFIX: &str = "x-anthropic-billing-header:";

/// Returns `request` without the attribution line.
pub(crate) async fn without_attribution(request: BackendRequest) -> Result<BackendRequest, BackendError> {
    let is_message = matches!(request.endpoint, Endpoint::Messages | Endpoint::CountTokens);
    if !is_message || memmem::find(&request.body, PREFIX.as_bytes()).is_none() {
        return Ok(request);
    }
    let body = request.body.clone();
    let edited = offload(&request.user, body.len(), move || drop_attribution(&body)).await?;
    Ok(match edited {
        Some(body) => BackendRequest { body: body.into(), ..request },
        None => request,
    })
}

/// Returns the request without the attribution line at the beginning of its system text: of the text, or of the first block of a
/// list. A block, or a system text, of which nothing is left is dropped. `None` if there is no such line.
pub(crate) fn drop_attribution(body: &[u8]) -> Option<String> {
    let mut request = Object::parse(std::str::from_utf8(body).ok()?).ok()?;
    let system = edited_system(request.get("system")?)?;
    if system.is_empty() {
        request.remove("system");
    } else {
        request.set("system", system);
    }
    Some(request.to_string())
}

/// Returns a system text, or list of blocks, without the line; empty if nothing is left.
fn edited_system(system: &str) -> Option<String> {
    if system.starts_with('"') {
        let rest = rest_of(system)?;
        return Some(if rest.is_empty() { rest } else { quote(&rest) });
    }
    let (mut first, mut others) = (None, Vec::new());
    each_element(system, |block| match first {
        None => first = Some(block),
        Some(_) => others.push(block),
    })
    .ok()?;
    let mut block = Object::parse(first?).ok()?;
    let rest = rest_of(block.get("text")?)?;
    if rest.is_empty() && others.is_empty() {
        return Some(rest);
    }
    if rest.is_empty() {
        return Some(format!("[{}]", others.join(",")));
    }
    block.set("text", quote(&rest));
    let block = block.to_string();
    others.insert(0, &block);
    Some(format!("[{}]", others.join(",")))
}

/// Returns what follows the attribution line in a JSON string; `None` if the string does not begin with one.
fn rest_of(text: &str) -> Option<String> {
    let text = unquote(text)?;
    if !text.starts_with(PREFIX) {
        return None;
    }
    let rest = text.split_once('\n').map_or("", |(_, rest)| rest);
    Some(rest.trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(system: &str) -> Option<String> {
        let body = format!(r#"{{"model":"m","seed":18446744073709551615,"system":{system},"messages":[]}}"#);
        drop_attribution(body.as_bytes())
    }

    #[test]
    fn the_attribution_line_is_dropped_and_the_rest_is_unchanged() {
        for (system, left) in [
            (
                r#"[{"type":"text","text":"x-anthropic-billing-header: a=1; b=2;"},{"type":"text","text":"B","x":1.10}]"#,
                r#""system":[{"type":"text","text":"B","x":1.10}],"#,
            ),
            (r#"[{"type":"text","text":"x-anthropic-billing-header: a=1;"}]"#, ""),
            (
                r#"[{"type":"text","text":"x-anthropic-billing-header: a\nBe brief."},{"text":"B"}]"#,
                r#""system":[{"type":"text","text":"Be brief."},{"text":"B"}],"#,
            ),
            (r#""x-anthropic-billing-header: a=1;""#, ""),
            (r#""x-anthropic-billing-header: a=1;\n\nBe brief.""#, r#""system":"Be brief.","#),
        ] {
            let expected = format!(r#"{{"model":"m","seed":18446744073709551615,{left}"messages":[]}}"#);
            assert_eq!(edited(system).as_deref(), Some(&*expected), "{system}");
        }
    }

    #[test]
    fn other_system_texts_are_not_touched() {
        for system in [
            r#""Be brief. x-anthropic-billing-header: a""#,
            r#"[{"type":"text","text":"A"},{"type":"text","text":"x-anthropic-billing-header: a"}]"#,
            r#"[{"type":"text","text":["x-anthropic-billing-header: a"]}]"#,
            r#"["x-anthropic-billing-header: a"]"#,
            "[]",
            "null",
            "7",
        ] {
            assert_eq!(edited(system), None, "{system}");
        }
        assert_eq!(drop_attribution(b"{"), None);
        assert_eq!(
            drop_attribution(br#"{"messages":[{"role":"user","content":"x-anthropic-billing-header: a"}]}"#),
            None
        );
    }
}
