//! The words by which the APIs, and the servers that speak them, ask for more than an answer.
//!
//! It is a list of what is known: a word that is not in it passes.

use std::borrow::Cow;

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
    /// The data of such.
    Data,
    /// Where a picture is, and in any other object a word like any.
    Place,
    /// A file that the backend keeps.
    Kept,
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

/// The member of the request that a scan is in, where that says what is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Within {
    #[default]
    Any,
    Tools,
    Choice,
    Prompt,
    Documents,
    Metadata,
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
}

impl Name {
    /// The longest word there is, and some more.
    const LONGEST: usize = 32;

    /// The name between the quotes.
    pub(super) fn of(quoted: &[u8]) -> Self {
        let inner = &quoted[1..quoted.len() - 1];
        let mut name = Self { letters: [0; Self::LONGEST], len: 0, end: [0; 4], is_exact: true };
        // As nearly all are: a request may have many thousands.
        if inner.len() <= Self::LONGEST && inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\') {
            for byte in inner {
                name.letters[name.len] = byte.to_ascii_lowercase();
                name.len += usize::from(*byte != b'_');
                name.is_exact &= !byte.is_ascii_uppercase();
            }
            return name;
        }
        for letter in letters(inner) {
            let folded = fold(letter);
            name.is_exact &= letter == u16::from(folded);
            if folded == b'_' {
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
            | b"lorapath"
            // Other hosts, and code.
            | b"kvtransferparams"
            | b"bootstraphost"
            | b"customlogitprocessor" => Word::Never,
            b"background" | b"enablesearch" | b"mocktestingfallbacks" => Word::NeverTrue,
            b"store" => Word::Store,
            b"modality" | b"infinityextramodality" => Word::Modality,
            b"responseformat" | b"text" | b"functions" | b"guidedjson" | b"structuredoutputs"
            | b"jsonschema"
                if self.is_exact =>
            {
                Word::Free
            }
            // Never arguments of a call here; and one word in it is a server's.
            b"input" | b"metadata" => Word::Any,
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
            b"data" => Word::Data,
            b"path" | b"source" => Word::Place,
            b"fileid" | b"fileids" | b"vectorstoreids" | b"cachedcontent" => Word::Kept,
            b"apibase" | b"mcpservers" => Word::Never,
            b"url" | b"uri" if self.is_exact => Word::Link,
            _ if self.is_address() => Word::Address,
            _ => Word::Any,
        }
    }

    /// What it says at this depth of the request, below its own object.
    pub(super) fn within(&self, within: Within, depth: usize) -> Word {
        match (within, self.letters()) {
            (Within::Choice, b"type") => Word::Choice,
            (Within::Choice, _) => Word::Any,
            (Within::Prompt, b"id") if depth <= 3 => Word::Never,
            (Within::Metadata, b"mcpservers") => Word::Never,
            (Within::Metadata, _) => Word::Free,
            (Within::Extra, _) if depth == 2 => self.of_request(),
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
            b"extrabody" => Within::Extra,
            b"documents" if self.is_exact => Within::Documents,
            b"metadata" if self.is_exact => Within::Metadata,
            _ => Within::Any,
        }
    }

    /// Whether it is exactly `store`, which every server reads.
    pub(super) fn is_store(&self) -> bool {
        self.is_exact && self.letters() == b"store"
    }
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
    /// An item of an answer that the server keeps.
    Kept,
}

/// What an object of this type is.
pub(super) fn kind(kind: &[u8]) -> Kind {
    let has = |word: &[u8]| kind.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    match kind {
        b"web_search_result"
        | b"web_fetch_result"
        | b"search_result"
        | b"url_citation"
        | b"web_search_result_location"
        | b"search_result_location" => Kind::Source,
        _ if kind.eq_ignore_ascii_case(b"item_reference") => Kind::Kept,
        _ if has(b"image") || has(b"video") || has(b"audio") => Kind::Media,
        _ => Kind::Any,
    }
}
