//! The kind of an object, by its `type`.

use std::borrow::Cow;

/// The kind of an object, by its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectType {
    /// Any other type.
    Other,
    /// A citation or a search result, whose `url` is the source of a text and is not fetched.
    Citation,
    /// An image, audio or a video.
    Media,
    /// A document or any other file.
    File,
    Text,
    /// A reference to an item that the server stores.
    ItemReference,
    /// An image that the server generated. It refers to a stored image if it has no result.
    GeneratedImage,
}

impl ObjectType {
    pub(super) fn of(kind: &[u8]) -> Self {
        let has = |word: &[u8]| kind.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
        let is = |word: &[u8]| kind.eq_ignore_ascii_case(word);
        match kind {
            b"text" => Self::Text,
            b"web_search_result"
            | b"web_fetch_result"
            | b"search_result"
            | b"url_citation"
            | b"web_search_result_location"
            | b"search_result_location" => Self::Citation,
            _ if is(b"item_reference") => Self::ItemReference,
            _ if is(b"image_generation_call") => Self::GeneratedImage,
            _ if has(b"image") || has(b"video") || has(b"audio") => Self::Media,
            _ if has(b"document") || has(b"pdf") => Self::File,
            _ if is(b"file") || is(b"input_file") || is(b"file_path") || is(b"media") => Self::File,
            _ => Self::Other,
        }
    }

    /// Combines with a further type of the same object. Servers differ in which of two they read, so media prevails over
    /// files, and files over all else; two other types make the object an unknown one.
    pub(super) fn combine(first: Option<Self>, second: Self) -> Self {
        match first {
            None => second,
            Some(_) if second.is_media() => second,
            Some(first) if first.is_media() => first,
            Some(_) if second == Self::File => second,
            Some(first) if first == second || first == Self::File => first,
            Some(_) => Self::Other,
        }
    }

    /// Whether the object is an image, audio or a video.
    pub(super) fn is_media(self) -> bool {
        matches!(self, Self::Media | Self::GeneratedImage)
    }

    /// Whether the object is media or a file.
    pub(super) fn is_file(self) -> bool {
        self.is_media() || self == Self::File
    }

    /// Whether a location in the object is about a text, and not a part of the object around it.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Citation | Self::Text)
    }
}

/// The content of a string that is given with its quotes.
pub(super) fn unquoted(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let text = std::str::from_utf8(quoted).ok().and_then(crate::json::unquote);
    text.map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_owned().into_bytes()))
}
