//! The words by which the APIs, and the servers that speak them, ask for more than an answer.
//!
//! It is a list of what is refused in words. A member of the request that is not in it, nor in that of what the APIs have
//! ([`is_known`]), is left out.

use std::borrow::Cow;

use super::known::is_known;
use crate::json::letters::{fold, letters};

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
    /// An address that says where a text is from, or else what is to be fetched.
    Link,
    /// A picture, a sound, a file; as data, or by its address.
    Media,
    /// Files beside a message, in whatever form.
    Attached,
    /// The data of such.
    Data,
    /// Where a picture is, and in any other object a word like any.
    Place,
    /// A file that the backend keeps.
    Kept,
    /// Of a picture, a sound or a film the name by which the backend keeps it, for whoever names it.
    KeptAs,
    /// What the input consists of: a picture's address is to be fetched where it is not text.
    Modality,
    /// The list of tools.
    Tools,
    /// Which of them has to be called, if any.
    Choice,
    /// No member of a request for another's backend, unless it is null, false, empty or -1.
    Never,
    /// The same unless it is null or false: readers take 1, "on" and the like for true.
    NeverTrue,
    /// The same of what it says whether the answer is kept. Left out it is true at some servers.
    Store,
}

impl Word {
    /// Whether it names a picture, a sound, a film or a file: a request without it would be another one.
    pub(super) fn is_of_files(self) -> bool {
        matches!(self, Self::Address | Self::Link | Self::Media | Self::Kept | Self::Modality)
    }
}

/// The member of the request that a scan is in, where that says what is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Within {
    #[default]
    Any,
    Tools,
    Choice,
    Prompt,
    Documents,
    /// The items of a conversation.
    Input,
    Metadata,
    /// The same in other letters, as some servers read it and others do not.
    MetadataLike,
    /// Members of the request that its SDK would have put into it.
    Extra,
}

/// A key as the laxest of the servers compare it: small letters of ASCII without `_`.
pub(super) struct Name {
    letters: [u8; Self::LONGEST],
    len: usize,
    /// Its last four letters, where it is longer than any word.
    end: [u8; 4],
    /// Whether it is written in small letters of ASCII: what is not is looked at, never let pass.
    is_exact: bool,
    /// Whether there is a `_` in it.
    is_parted: bool,
}

impl Name {
    /// The longest word there is, and some more.
    const LONGEST: usize = 40;

    /// The name between the quotes.
    pub(super) fn of(quoted: &[u8]) -> Self {
        let inner = &quoted[1..quoted.len() - 1];
        let mut name =
            Self { letters: [0; Self::LONGEST], len: 0, end: [0; 4], is_exact: true, is_parted: false };
        // As nearly all are: a request may have many thousands.
        if inner.len() <= Self::LONGEST && inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
            for byte in inner {
                name.letters[name.len] = byte.to_ascii_lowercase();
                name.len += usize::from(*byte != b'_');
                name.is_parted |= *byte == b'_';
                name.is_exact &= !byte.is_ascii_uppercase();
            }
            return name;
        }
        for letter in letters(inner) {
            let folded = fold(letter);
            name.is_exact &= letter == u16::from(folded);
            if folded == b'_' {
                name.is_parted = true;
                continue;
            }
            if let Some(place) = name.letters.get_mut(name.len) {
                *place = folded;
            }
            name.len += 1;
            let [_, b, c, d] = name.end;
            name.end = [b, c, d, folded];
        }
        name
    }

    /// Its letters; none where it is longer than any word.
    pub(super) fn letters(&self) -> &[u8] {
        self.letters.get(..self.len).unwrap_or_default()
    }

    /// `image_url`, `fileUri`, `video_urls` and the like.
    fn is_address(&self) -> bool {
        let letters = if self.len > Self::LONGEST { &self.end } else { self.letters() };
        matches!(letters, [.., b'u', b'r', b'l' | b'i'] | [.., b'u', b'r', b'l' | b'i', b's'])
    }

    /// What it says in the request's own object.
    pub(super) fn of_request(&self) -> Word {
        match self.letters() {
            b"tools" => Word::Tools,
            b"toolchoice" => Word::Choice,
            // Tools and searches that the server runs, and files of its own.
            b"mcpservers"
            | b"websearchoptions"
            | b"searchparameters"
            | b"plugins"
            | b"integrations"
            | b"datasources"
            | b"toolids"
            | b"toolservers"
            | b"features"
            | b"files"
            | b"container"
            // What it keeps, or kept.
            | b"previousresponseid"
            | b"conversation"
            | b"sessionparams"
            | b"idslot"
            | b"slotid"
            | b"rid"
            | b"requestid"
            | b"promptid"
            | b"multimodaluuids"
            | b"mmhashes"
            // Conversations in their owner's account there, and what it has made for them.
            | b"chatid"
            | b"parentid"
            | b"messageids"
            | b"usermessage"
            | b"filterids"
            | b"skillids"
            | b"terminalid"
            | b"backgroundtasks"
            // Other models than the one that is published.
            | b"models"
            | b"modellist"
            | b"route"
            | b"preset"
            | b"fallbacks"
            | b"contextwindowfallbacks"
            | b"contextwindowfallbackdict"
            | b"contentpolicyfallbacks"
            | b"draftmodel"
            | b"lora"
            | b"loraid"
            | b"lorapath"
            | b"lorarequest"
            | b"adapters"
            | b"adapterid"
            | b"adaptersource"
            | b"modelitem"
            | b"modelinfo"
            | b"userconfig"
            | b"routersettingsoverride"
            | b"specificdeployment"
            | b"customllmprovider"
            | b"backend"
            | b"modelbasename"
            // Other keys, other hosts, what its owner has checked and logged, and code.
            | b"apikey"
            | b"headers"
            | b"defaultheaders"
            | b"extraheaders"
            | b"extraquery"
            | b"kvtransferparams"
            | b"bootstrapport"
            | b"bootstraproom"
            | b"guardrails"
            | b"guardrailconfig"
            | b"disableglobalguardrail"
            | b"disableglobalguardrails"
            | b"callbacks"
            | b"successcallback"
            | b"failurecallback"
            | b"customlogitprocessor" => Word::Never,
            // Some readers compare without a look at capitals, and the last one counts.
            b"store" if !self.is_parted => Word::Store,
            b"store" | b"background" | b"deferred" | b"enablesearch" | b"websearch" | b"webfetch"
            | b"mocktestingfallbacks" | b"ttl" => Word::NeverTrue,
            b"modality" | b"infinityextramodality" => Word::Modality,
            b"responseformat" | b"text" | b"functions" | b"guidedjson" | b"structuredoutputs"
            | b"jsonschema"
                if self.is_exact =>
            {
                Word::Free
            }
            // Never arguments of a call here; and one word in it is a server's.
            b"input" | b"metadata" | b"clientmetadata" => Word::Any,
            letters if is_gateways(letters) => Word::Never,
            _ => self.of_member(),
        }
    }

    /// What it says within it.
    pub(super) fn of_member(&self) -> Word {
        match self.letters() {
            b"type" => Word::Type,
            b"tools" => Word::Tools,
            b"function" if self.is_exact => Word::Call,
            b"arguments" | b"parameters" | b"inputschema" | b"schema" | b"properties" | b"metadata"
            | b"annotations" | b"citations" | b"action" | b"searchresults"
                if self.is_exact =>
            {
                Word::Free
            }
            b"input" if self.is_exact => Word::Input,
            b"image" | b"images" | b"imagedata" | b"inputimage" | b"audio" | b"audiodata" | b"inputaudio"
            | b"video" | b"videos" | b"videodata" | b"inputvideo" | b"file" | b"files" | b"filedata"
            | b"inputfile" | b"multimodaldata" => Word::Media,
            b"attachments" => Word::Attached,
            b"data" => Word::Data,
            b"path" | b"source" => Word::Place,
            b"fileid" | b"fileids" | b"vectorstoreids" | b"cachedcontent" => Word::Kept,
            b"uuid" => Word::KeptAs,
            // A template is a program.
            b"apibase" | b"mcpservers" | b"chattemplate" => Word::Never,
            b"url" | b"uri" if self.is_exact => Word::Link,
            _ if self.is_address() => Word::Address,
            _ => Word::Any,
        }
    }

    /// What it says at this depth of the request, below its own object, which is at 1.
    pub(super) fn within(&self, within: Within, depth: usize) -> Word {
        match (within, self.letters()) {
            (Within::Choice, b"type") => Word::Choice,
            (Within::Prompt, b"id") if depth <= 3 => Word::Never,
            (Within::Metadata | Within::MetadataLike, letters) if is_for_the_server(letters) => Word::Never,
            (Within::Choice | Within::Metadata, _) => Word::Any,
            // What is ranked or quoted has members of its owner's; only a picture's are an API's.
            (Within::Documents, letters) if depth == 3 => match self.of_member() {
                Word::Address if !is_of_media(letters) => Word::Free,
                Word::Any if letters == b"content" => Word::Any,
                word @ (Word::Type | Word::Media | Word::Kept | Word::Address) => word,
                _ => Word::Free,
            },
            _ => self.of_member(),
        }
    }

    /// Whether the member of the request says something of what is in it.
    pub(super) fn opens(&self) -> Within {
        match self.letters() {
            b"tools" => Within::Tools,
            b"toolchoice" => Within::Choice,
            b"prompt" => Within::Prompt,
            b"input" => Within::Input,
            b"extrabody" | b"vllmxargs" => Within::Extra,
            b"documents" if self.is_exact => Within::Documents,
            b"metadata" | b"clientmetadata" if self.is_exact => Within::Metadata,
            b"metadata" | b"clientmetadata" => Within::MetadataLike,
            _ => Within::Any,
        }
    }

    /// Whether a member of this name is a picture, a sound, a film or a file, in whatever form.
    pub(super) fn is_of_media(&self) -> bool {
        self.letters() != b"input" && is_of_media(self.letters())
    }

    /// What it says of an item of a conversation.
    pub(super) fn of_item(&self) -> Said {
        match self.letters() {
            b"id" => Said::Id,
            b"role" | b"content" | b"text" => Said::Content,
            _ if self.is_of_media() => Said::Content,
            b"result" => Said::Result,
            _ => Said::Nothing,
        }
    }

    /// Whether it is exactly `store`, which every server reads.
    pub(super) fn is_store(&self) -> bool {
        self.is_exact && !self.is_parted && self.letters() == b"store"
    }

    /// Whether what it names is read and not fetched, wherever it stands.
    pub(super) fn is_of_text(&self) -> bool {
        const END: [&[u8]; 10] = [
            b"text",
            b"title",
            b"context",
            b"content",
            b"name",
            b"caption",
            b"prompt",
            b"description",
            b"transcript",
            b"summary",
        ];
        END.iter().any(|end| self.letters().ends_with(end))
    }

    /// Whether an API has a member of the request of this name.
    pub(super) fn is_known(&self) -> bool {
        is_known(self.letters())
    }
}

/// What a member says of the object that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing of what is in it.
    Nothing,
    Id,
    /// What any item of a conversation without a type has.
    Content,
    /// What was made, by a tool of the server's.
    Result,
    /// A picture, a sound, a film or a file, or that there is none.
    Media,
    /// By what name the server keeps that.
    KeptAs,
    /// That it has no type.
    NoType,
}

impl Said {
    /// How many there are.
    pub(super) const COUNT: usize = Self::NoType as usize + 1;
}

/// Whether a gateway takes a member of the request of this name for its own: where to, as whom, and what to say in place
/// of an answer.
fn is_gateways(letters: &[u8]) -> bool {
    const BEGIN: [&[u8]; 7] = [b"litellm", b"mock", b"aws", b"azure", b"vertex", b"langfuse", b"langsmith"];
    const END: [&[u8]; 3] = [b"host", b"endpoint", b"credentials"];
    BEGIN.iter().any(|begin| letters.starts_with(begin)) || END.iter().any(|end| letters.ends_with(end))
}

/// Whether a member of a request's metadata is none of its caller's notes: servers have tools of theirs run by it, and
/// choose what checks, routes and logs it.
fn is_for_the_server(letters: &[u8]) -> bool {
    const WORDS: [&[u8]; 9] = [
        b"mcp",
        b"assistant",
        b"localai",
        b"litellm",
        b"guardrail",
        b"langfuse",
        b"callback",
        b"fallback",
        b"plugin",
    ];
    WORDS.iter().any(|word| letters.windows(word.len()).any(|part| part == *word))
}

/// Whether the name of an address begins with what is fetched.
fn is_of_media(letters: &[u8]) -> bool {
    [&b"image"[..], b"video", b"audio", b"file", b"input"].iter().any(|kind| letters.starts_with(kind))
}

/// The text of a string with its quotes.
pub(super) fn unquoted(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return Cow::Borrowed(inner);
    }
    let text = std::str::from_utf8(quoted).ok().and_then(crate::json::unquote);
    text.map_or(Cow::Borrowed(inner), |text| Cow::Owned(text.into_owned().into_bytes()))
}

/// What an object is by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything.
    Any,
    /// Its `url` says where a text is from, and is not fetched.
    Source,
    /// A picture, a sound or a film.
    Media,
    /// A document, or any file.
    File,
    /// A text.
    Text,
    /// An item of an answer that the server keeps.
    Kept,
    /// A picture that it has made, and keeps where none is in it.
    Made,
}

impl Kind {
    /// Whether it is a picture, a sound or a film.
    pub(super) fn is_media(self) -> bool {
        matches!(self, Self::Media | Self::Made)
    }

    /// Whether it is one of these or any other file.
    pub(super) fn is_of_files(self) -> bool {
        self.is_media() || self == Self::File
    }

    /// Whether what it says of where a text is from is its own, and nothing of what it is in.
    pub(super) fn is_of_text(self) -> bool {
        matches!(self, Self::Source | Self::Text)
    }
}

/// What an object of this type is.
pub(super) fn kind(kind: &[u8]) -> Kind {
    let has = |word: &[u8]| kind.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    let is = |word: &[u8]| kind.eq_ignore_ascii_case(word);
    match kind {
        b"text" => Kind::Text,
        b"web_search_result"
        | b"web_fetch_result"
        | b"search_result"
        | b"url_citation"
        | b"web_search_result_location"
        | b"search_result_location" => Kind::Source,
        _ if is(b"item_reference") => Kind::Kept,
        _ if is(b"image_generation_call") => Kind::Made,
        _ if has(b"image") || has(b"video") || has(b"audio") => Kind::Media,
        _ if has(b"document") || has(b"pdf") => Kind::File,
        _ if is(b"file") || is(b"input_file") || is(b"file_path") || is(b"media") => Kind::File,
        _ => Kind::Any,
    }
}
