//! Translates content blocks to content parts.

use std::borrow::Cow;

use super::super::conversation::ContentPart;
use super::super::json::{Json, unescape};
use super::super::{InvalidRequest, invalid, shown};

/// Calls `each` with type, block and path of each block in `content`, which is a string or an array at `path` in the request.
pub(super) fn each_block<'a>(
    content: Option<&Json<'a>>,
    path: &str,
    mut each: impl FnMut(&str, &Json<'a>, &str) -> Result<(), InvalidRequest>,
) -> Result<(), InvalidRequest> {
    match content {
        None => Ok(()),
        Some(Json::Array(blocks)) => blocks.iter().enumerate().try_for_each(|(index, block)| {
            let path = format!("{path}.{index}");
            let kind = block.get_str("type").ok_or_else(|| invalid(format!("{path} has no type")))?;
            each(&kind, block, &path)
        }),
        Some(text) if text.is_string() => each("text", &Json::object([("text", text.clone())]), path),
        Some(_) => Err(invalid(format!("{path} must be a string or an array of blocks"))),
    }
}

/// Translates all blocks in `content`.
pub(super) fn parts<'a>(
    content: Option<&Json<'a>>,
    path: &str,
) -> Result<Vec<ContentPart<'a>>, InvalidRequest> {
    let mut out = Vec::new();
    each_block(content, path, |kind, block, path| add_parts(kind, block, path, &mut out))?;
    Ok(out)
}

/// Translates one block and appends the parts.
pub(super) fn add_parts<'a>(
    kind: &str,
    block: &Json<'a>,
    path: &str,
    out: &mut Vec<ContentPart<'a>>,
) -> Result<(), InvalidRequest> {
    let text = |key: &str| block.get(key).and_then(ContentPart::text);
    match kind {
        "text" => out.extend(text("text")),
        "image" => out.push(image(block, path)?),
        "document" => {
            out.extend(["title", "context"].into_iter().filter_map(text));
            add_document(block, path, out)?;
        }
        "search_result" => {
            out.extend(["title", "source"].into_iter().filter_map(text));
            out.append(&mut parts(block.get("content"), path)?);
        }
        "tool_reference" => out.extend(text("tool_name")),
        // Reasoning that only the model of the API can read.
        "redacted_thinking" => (),
        _ => {
            let kind = shown(kind);
            return Err(invalid(format!("{path}: this model takes no content of type '{kind}'")));
        }
    }
    Ok(())
}

fn image<'a>(block: &Json<'a>, path: &str) -> Result<ContentPart<'a>, InvalidRequest> {
    let source = block.get("source").ok_or_else(|| invalid(format!("{path}: an image needs a source")))?;
    let url = match source.get_str("type").as_deref() {
        Some("base64") => {
            let (kind, data) = (source.get_fragment("media_type"), source.get_fragment("data"));
            Json::from_fragment(&format!("data:{kind};base64,{data}"))
        }
        Some("url") => source.get("url").cloned().unwrap_or(Json::NULL),
        Some("file") => return Err(invalid(format!("{path}: this model cannot fetch files by id"))),
        _ => return Err(invalid(format!("{path}: an image's source must be of type base64 or url"))),
    };
    Ok(ContentPart::image(url, None))
}

fn add_document<'a>(
    block: &Json<'a>,
    path: &str,
    out: &mut Vec<ContentPart<'a>>,
) -> Result<(), InvalidRequest> {
    let source = block.get("source").ok_or_else(|| invalid(format!("{path}: a document needs a source")))?;
    match source.get_str("type").as_deref() {
        Some("text") => out.extend(source.get("data").and_then(ContentPart::text)),
        Some("content") => out.append(&mut parts(source.get("content"), path)?),
        Some("base64") => {
            let kind = shown(&unescape(source.get_fragment("media_type")));
            return Err(invalid(format!(
                "{path}: this model reads no documents of type '{kind}': send their text"
            )));
        }
        _ => return Err(invalid(format!("{path}: this model cannot fetch documents: send their text"))),
    }
    Ok(())
}

/// Marks a tool result as an error in its text, because a tool message has no member for it.
pub(super) fn mark_error(parts: &mut Vec<ContentPart<'_>>) {
    let text = parts.iter_mut().find_map(|part| match part {
        ContentPart::Text(text) => Some(text),
        ContentPart::Other(_) => None,
    });
    match text {
        Some(text) => *text = Cow::Owned(format!("Error: {text}")),
        None => parts.insert(0, ContentPart::Text(Cow::Borrowed("Error"))),
    }
}
