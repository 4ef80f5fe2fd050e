//! Drops the attribution line from the system text of a Messages request.
//!
//! Claude Code puts a line for Anthropic's billing in front of its system text. It differs in each session and call, so a
//! backend that is not Anthropic's could not reuse its prefix cache: it would read the whole prompt anew each time.

use std::ops::Range;

use memchr::memmem;
use wire::json::{each_element, each_member, member, unquote};
use wire::task::Endpoint;

use crate::budget::Reservation;
use crate::offload::offload;
use crate::{BackendError, BackendRequest};

/// Begins the attribution line.
const PREFIX: &str = "x-anthropic-billing-header:";
/// Longest JSON string that means `system`.
const LONGEST_KEY: usize = r#""\u0073\u0079\u0073\u0074\u0065\u006d""#.len();

/// Returns `request` without the attribution line, and what counts the copy of its body. What counted the former body is dropped
/// with it, so the copy is counted like an answer.
pub(crate) async fn without_attribution(
    request: BackendRequest,
) -> Result<(BackendRequest, Option<Reservation>), BackendError> {
    let is_message = matches!(request.endpoint, Endpoint::Messages | Endpoint::CountTokens);
    if !is_message || memmem::find(&request.body, PREFIX.as_bytes()).is_none() {
        return Ok((request, None));
    }
    let mut copy = request.budget.reservation();
    if !copy.resize(request.body.len()) {
        return Err(BackendError::BudgetExceeded);
    }
    let body = request.body.clone();
    let edited = offload(&request.user, body.len(), move || drop_attribution(&body)).await?;
    Ok(match edited {
        Some(body) => (BackendRequest { body: body.into(), ..request }, Some(copy)),
        None => (request, None),
    })
}

/// Returns the request without the attribution line at the beginning of its system text: of the text, or of the first block of a
/// list. A block, or a system text, of which nothing is left is dropped. `None` if there is no such line.
pub(crate) fn drop_attribution(body: &[u8]) -> Option<Vec<u8>> {
    let Range { start, end } = attribution(std::str::from_utf8(body).ok()?)?;
    let mut edited = Vec::with_capacity(body.len() - (end - start));
    edited.extend_from_slice(&body[..start]);
    edited.extend_from_slice(&body[end..]);
    Some(edited)
}

/// Returns what to drop of the request `body`. It takes constant memory: a list can have millions of elements.
fn attribution(body: &str) -> Option<Range<usize>> {
    let (mut system, mut count) = (None, 0);
    let each = |key: &'_ str, value| {
        if key.len() <= LONGEST_KEY && unquote(key).is_some_and(|key| key == "system") {
            count += 1;
            system = Some((offset(body, key), value));
        }
    };
    each_member(body, each).ok()?;
    // Of several, readers differ in which one they take.
    let ((start, system), 1) = (system?, count) else { return None };
    let span = |part: &str| offset(body, part)..offset(body, part) + part.len();
    let mut whole = start..span(system).end;
    let text = if system.starts_with('"') {
        system
    } else {
        let (mut first, mut count) = (None, 0);
        each_element(system, |block| {
            first = first.or(Some(block));
            count += 1;
        })
        .ok()?;
        if count > 1 {
            whole = span(first?);
        }
        member(first?, "text")?
    };
    let rest = rest_of(text)?;
    Some(if rest == "\"" { with_comma(body, whole) } else { span(text).start + 1..span(rest).start })
}

/// The offset in `text` of `part`, which is a part of it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// The range of a member or an element, with the comma that is left over without it.
fn with_comma(text: &str, range: Range<usize>) -> Range<usize> {
    if let Some(next) = text[range.end..].trim_ascii_start().strip_prefix(',') {
        return range.start..offset(text, next.trim_ascii_start());
    }
    let before = text[..range.start].trim_ascii_end();
    before.strip_suffix(',').map_or(range.start, str::len)..range.end
}

/// Returns what follows the attribution line in a JSON string, to its closing quote; `None` if the string does not begin with
/// one.
fn rest_of(literal: &str) -> Option<&str> {
    const LINE_BREAKS: &[&str] = &[r"\n", r"\u000a", r"\u000A"];
    const SPACES: &[&str] = &[r"\n", r"\u000a", r"\u000A", r"\r", r"\t"];

    fn skip<'a>(text: &'a str, escapes: &[&str]) -> Option<&'a str> {
        escapes.iter().find_map(|escape| text.strip_prefix(escape))
    }

    let mut line = literal.strip_prefix('"')?.strip_prefix(PREFIX)?;
    let mut rest = loop {
        let stop = &line[line.find(['"', '\\'])?..];
        if stop.starts_with('"') {
            return Some(stop);
        }
        match skip(stop, LINE_BREAKS) {
            Some(rest) => break rest,
            // A backslash and an ASCII letter.
            None => line = stop.get(2..)?,
        }
    };
    loop {
        rest = rest.trim_start();
        match skip(rest, SPACES) {
            Some(after) => rest = after,
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(system: &str) -> Option<String> {
        let body = format!(r#"{{"model":"m","seed":18446744073709551615,"system":{system},"messages":[]}}"#);
        drop_attribution(body.as_bytes()).map(|body| String::from_utf8(body).unwrap())
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
            (
                r#"[ { "text" : "x-anthropic-billing-header: \\n \" \u00e4\u000A \t\r\n\"Be\" brief.\n" } , 1,[ 2 ]]"#,
                r#""system":[ { "text" : "\"Be\" brief.\n" } , 1,[ 2 ]],"#,
            ),
            (r#"[{"text":"x-anthropic-billing-header:\n"} , {} , "]"]"#, r#""system":[{} , "]"],"#),
            (r#""x-anthropic-billing-header: a=1;""#, ""),
            (r#""x-anthropic-billing-header: a=1;\n\nBe brief.""#, r#""system":"Be brief.","#),
        ] {
            let expected = format!(r#"{{"model":"m","seed":18446744073709551615,{left}"messages":[]}}"#);
            assert_eq!(edited(system).as_deref(), Some(&*expected), "{system}");
        }
    }

    #[test]
    fn the_comma_of_a_dropped_member_goes_with_it() {
        const LINE: &str = r#""x-anthropic-billing-header: a""#;
        for (body, left) in [
            (format!(r#"{{ "system" : {LINE} }}"#), "{  }"),
            (format!(r#"{{"a":1 , "system":{LINE}}}"#), r#"{"a":1 }"#),
            (format!(r#"{{"system":[{{"text":{LINE}}}] , "a":1}}"#), r#"{"a":1}"#),
            (format!(r#"{{"s\u0079stem":{LINE},"a":1}}"#), r#"{"a":1}"#),
        ] {
            assert_eq!(drop_attribution(body.as_bytes()).as_deref(), Some(left.as_bytes()), "{body}");
        }
    }

    #[test]
    fn other_system_texts_are_not_touched() {
        for system in [
            r#""Be brief. x-anthropic-billing-header: a""#,
            r#"[{"type":"text","text":"A"},{"type":"text","text":"x-anthropic-billing-header: a"}]"#,
            r#"[{"type":"text","text":["x-anthropic-billing-header: a"]}]"#,
            r#"["x-anthropic-billing-header: a"]"#,
            r#""x-anthropic-billing-header: a","system":"B""#,
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
