//! Content blocks of a message as parts of a chat.

use std::borrow::Cow;

use super::super::conversation::ContentPart;
use super::super::json::{Json, escape, unescape};
use super::super::{InvalidRequest, invalid, shown};

/// `content`, a string or blocks, as parts; `place` names it in an error. A block that `other` takes is none of them.
pub(super) fn parts<'a>(
    content: Option<&Json<'a>>,
    place: &str,
    mut other: impl FnMut(&str, &Json<'a>) -> Result<bool, InvalidRequest>,
) -> Result<Vec<ContentPart<'a>>, InvalidRequest> {
    let mut out = Vec::new();
    match content {
        None => (),
        Some(Json::Array(blocks)) => {
            for (index, block) in blocks.iter().enumerate() {
                let place = format!("{place}.{index}");
                let kind = block.get_str("type").ok_or_else(|| invalid(format!("{place} has no type")))?;
                if !other(&kind, block)? {
                    part(&kind, block, &place, &mut out)?;
                }
            }
        }
        Some(text) if text.is_string() => text_part(text, &mut out),
        Some(_) => return Err(invalid(format!("{place} must be a string or an array of blocks"))),
    }
    Ok(out)
}

fn part<'a>(
    kind: &str,
    block: &Json<'a>,
    place: &str,
    out: &mut Vec<ContentPart<'a>>,
) -> Result<(), InvalidRequest> {
    match kind {
        "text" => {
            if let Some(text) = block.get("text") {
                text_part(text, out);
            }
        }
        "image" => out.push(image(block, place)?),
        "document" => document(block, place, out)?,
        "search_result" => {
            let head = [block.get_fragment("title"), block.get_fragment("source")];
            for text in head.into_iter().filter(|text| !text.is_empty()) {
                out.push(ContentPart::Text(Cow::Owned(text.to_owned())));
            }
            out.append(&mut parts(block.get("content"), place, |_, _| Ok(false))?);
        }
        // A tool that a search of the caller's found: its name.
        "tool_reference" => {
            out.push(ContentPart::Text(Cow::Owned(block.get_fragment("tool_name").to_owned())));
        }
        // Reasoning that another model kept to itself.
        "redacted_thinking" => (),
        _ => {
            let kind = shown(kind);
            return Err(invalid(format!("{place}: this model takes no content of type '{kind}'")));
        }
    }
    Ok(())
}

fn text_part<'a>(text: &Json<'a>, out: &mut Vec<ContentPart<'a>>) {
    let text = text.shared_fragment();
    if !text.is_empty() {
        out.push(ContentPart::Text(text));
    }
}

fn image<'a>(block: &Json<'a>, place: &str) -> Result<ContentPart<'a>, InvalidRequest> {
    let source = block.get("source").ok_or_else(|| invalid(format!("{place}: an image needs a source")))?;
    let url = match source.get_str("type").as_deref() {
        Some("base64") => {
            let (kind, data) = (source.get_fragment("media_type"), source.get_fragment("data"));
            Json::from_fragment(&format!("data:{kind};base64,{data}"))
        }
        Some("url") => source.get("url").cloned().unwrap_or(Json::NULL),
        Some("file") => return Err(invalid(format!("{place}: this model cannot fetch files by id"))),
        _ => return Err(invalid(format!("{place}: an image's source must be of type base64 or url"))),
    };
    Ok(ContentPart::image(url, None))
}

fn document<'a>(block: &Json<'a>, place: &str, out: &mut Vec<ContentPart<'a>>) -> Result<(), InvalidRequest> {
    for text in ["title", "context"].map(|key| block.get_fragment(key)) {
        if !text.is_empty() {
            out.push(ContentPart::Text(Cow::Owned(text.to_owned())));
        }
    }
    let source = block.get("source").ok_or_else(|| invalid(format!("{place}: a document needs a source")))?;
    match source.get_str("type").as_deref() {
        Some("text") => {
            if let Some(text) = source.get("data") {
                text_part(text, out);
            }
            Ok(())
        }
        Some("content") => {
            out.append(&mut parts(source.get("content"), place, |_, _| Ok(false))?);
            Ok(())
        }
        Some("base64") => {
            let kind = shown(&unescape(source.get_fragment("media_type")));
            Err(invalid(format!("{place}: this model reads no documents of type '{kind}': send their text")))
        }
        _ => Err(invalid(format!("{place}: this model cannot fetch documents: send their text"))),
    }
}

/// The text of an error of a tool, marked as one: a tool message has no other mark.
pub(super) fn mark_error(parts: &mut Vec<ContentPart<'_>>) {
    let mark = escape("Error: ");
    match parts.iter_mut().find_map(|part| match part {
        ContentPart::Text(text) => Some(text),
        ContentPart::Other(_) => None,
    }) {
        Some(text) => *text = Cow::Owned(format!("{mark}{text}")),
        None => parts.insert(0, ContentPart::Text(Cow::Borrowed("Error"))),
    }
}
