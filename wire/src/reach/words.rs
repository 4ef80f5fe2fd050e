//! The words by which the APIs, and the servers that speak them, ask for more than an answer.

use std::borrow::Cow;

/// What a member's name says of its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Nothing: its members are looked at.
    Any,
    /// The kind of the object that it stands in.
    Type,
    /// A call where it is an object, or a function that can be called.
    Call,
    /// Nothing in it is the API's: schemas, arguments of calls, what the model wrote.
    Free,
    /// Arguments where it is an object.
    Input,
    /// An address: of a picture, a file, a server.
    Address,
    /// A picture, a sound, a file; as data, or by its address.
    Media,
    /// The data of such.
    Data,
    /// A file that the backend keeps.
    Kept,
    /// The list of tools.
    Tools,
    /// Whether one of them has to be called.
    Choice,
    /// No member of a request for another's backend, unless it is null.
    Never,
    /// The same where it is true.
    NeverTrue,
    /// The same where it is an object.
    NeverObject,
}

/// The name between the quotes.
pub(super) fn unquoted(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let text = std::str::from_utf8(quoted).ok().and_then(crate::json::unquote);
    text.map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_owned().into_bytes()))
}

/// What `name` says in the request's own object.
pub(super) fn of_request(name: &[u8]) -> Word {
    match name {
        b"tools" => Word::Tools,
        b"tool_choice" => Word::Choice,
        b"mcp_servers"
        | b"web_search_options"
        | b"plugins"
        | b"container"
        | b"previous_response_id"
        | b"conversation"
        | b"kv_transfer_params"
        | b"bootstrap_host"
        | b"api_base" => Word::Never,
        b"store" | b"background" => Word::NeverTrue,
        b"prompt" => Word::NeverObject,
        b"response_format" | b"text" | b"functions" => Word::Free,
        // Never arguments of a call here.
        b"input" => Word::Any,
        name => of_member(name),
    }
}

/// What `name` says within it.
pub(super) fn of_member(name: &[u8]) -> Word {
    match name {
        b"type" => Word::Type,
        b"function" => Word::Call,
        b"arguments" | b"parameters" | b"input_schema" | b"schema" | b"properties" | b"metadata"
        | b"annotations" | b"citations" | b"action" => Word::Free,
        b"input" => Word::Input,
        b"image" | b"images" | b"image_data" | b"audio" | b"audio_data" | b"input_audio" | b"video"
        | b"videos" | b"video_data" | b"file" | b"files" | b"file_data" => Word::Media,
        b"data" => Word::Data,
        b"file_id" | b"file_ids" | b"fileId" | b"vector_store_ids" => Word::Kept,
        name if is_address(name) => Word::Address,
        _ => Word::Any,
    }
}

/// `url`, `image_url`, `fileUri` and the like.
fn is_address(name: &[u8]) -> bool {
    name.last_chunk::<3>()
        .is_some_and(|end| end.eq_ignore_ascii_case(b"url") || end.eq_ignore_ascii_case(b"uri"))
}

/// Kinds of objects whose `url` says where something is from, and is not fetched.
pub(super) fn only_names(kind: &[u8]) -> bool {
    kind.ends_with(b"_citation")
        || kind.ends_with(b"_location")
        || matches!(kind, b"web_search_result" | b"web_fetch_result" | b"search_result")
}

/// What is to be done with a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// The caller runs it.
    Callers,
    /// Its server would, and the model can do without it.
    Optional,
    /// Its server would.
    Servers,
}

/// Whose a tool of this type is. What is not known runs at the server.
pub(super) fn tool(kind: &[u8]) -> Tool {
    /// Types whose versions are dates; their caller runs them.
    const DATED: [&[u8]; 4] = [b"bash_", b"text_editor_", b"computer_", b"memory_"];

    let is_dated = |name: &[u8]| kind.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"2"));
    match kind {
        b"function" | b"custom" | b"namespace" | b"local_shell" | b"apply_patch" | b"tool_search" => {
            Tool::Callers
        }
        b"web_search" | b"web_search_preview" | b"image_generation" => Tool::Optional,
        _ if DATED.iter().any(|name| is_dated(name)) => Tool::Callers,
        _ => Tool::Servers,
    }
}

/// The beginning of a string that has its quotes: as much as a scheme takes. A picture can have many megabytes.
fn beginning(quoted: &[u8]) -> Cow<'_, [u8]> {
    const ENOUGH: usize = 64;

    let inner = &quoted[1..quoted.len() - 1];
    let start = &inner[..inner.len().min(ENOUGH)];
    if memchr::memchr(b'\\', start).is_none() { Cow::Borrowed(start) } else { unquoted(quoted) }
}

/// Whether a tool that has a member of this name is Google's, and runs there: those have no type.
pub(super) fn is_servers(name: &[u8]) -> bool {
    let plain: Vec<u8> = name.iter().filter(|byte| **byte != b'_').map(u8::to_ascii_lowercase).collect();
    matches!(
        &*plain,
        b"googlesearch"
            | b"googlesearchretrieval"
            | b"enterprisewebsearch"
            | b"googlemaps"
            | b"retrieval"
            | b"urlcontext"
            | b"codeexecution"
            | b"filesearch"
            | b"computeruse"
            | b"mcpservers"
    )
}

/// Whether a string, with its quotes, holds its data itself; or nothing.
pub(super) fn is_data(quoted: &[u8]) -> bool {
    let text = beginning(quoted);
    let text = text.trim_ascii_start();
    text.is_empty() || text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
}

/// Whether a string, with its quotes, can only be data: letters without a scheme in front of them.
pub(super) fn is_plain_data(quoted: &[u8]) -> bool {
    is_data(quoted) || memchr::memchr(b':', &beginning(quoted)).is_none()
}
