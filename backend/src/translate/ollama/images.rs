//! Translates pictures, which Ollama's requests have in base64 without a media type, to content parts with `data:` URLs.

use super::super::conversation::ContentPart;
use super::super::json::Json;
use super::super::{InvalidRequest, invalid};

/// The media types of pictures by the beginning of their base64.
const MEDIA_TYPES: [(&str, &str); 7] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
    ("SUkqA", "image/tiff"),
    ("TU0AK", "image/tiff"),
];

/// Translates the `images` of `source`, which are at `path` in the request.
pub(super) fn parts<'a>(source: &Json<'a>, path: &str) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let images = match source.get("images") {
        None => &[],
        Some(Json::Array(images)) => images.as_slice(),
        Some(_) => return Err(invalid(format!("{path} must be an array"))),
    };
    let translated = images.iter().enumerate().map(|(index, image)| {
        let url = image.as_str().and_then(|text| data_url(&text));
        let url = url.ok_or_else(|| {
            invalid(format!("{path}.{index} is no PNG, JPEG, GIF, WebP, BMP or TIFF picture in base64"))
        })?;
        Ok(ContentPart::image(Json::raw(format!("\"{url}\"")), None).into_json())
    });
    translated.collect()
}

/// Builds a message's content. Pictures come before the text, as Ollama puts them into the prompt.
pub(super) fn content<'a>(text: Json<'a>, mut pictures: Vec<Json<'a>>) -> Json<'a> {
    if pictures.is_empty() {
        // Every template accepts a string.
        return text;
    }
    if text.fragment() != Some("") {
        pictures.push(Json::object([("type", "text".into()), ("text", text)]));
    }
    Json::Array(pictures)
}

/// Returns a `data:` URL of characters that need no escape; `None` if `image` is no picture.
fn data_url(image: &str) -> Option<String> {
    // Some encoders break lines.
    let image: String = image.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let is_base64 = |text: &str| {
        text.trim_end_matches('=').bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
    };
    if let Some((kind, data)) = image.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"))
    {
        let is_kind = kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte));
        return (is_kind && is_base64(data)).then_some(image);
    }
    let (_, kind) = MEDIA_TYPES.iter().find(|(begin, _)| image.starts_with(begin))?;
    is_base64(&image).then(|| format!("data:{kind};base64,{image}"))
}
