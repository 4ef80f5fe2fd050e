//! Follows a scan through a request. Pure.

use std::ops::Range;

use super::data::{is_data, is_plain_data, says_where};
use super::item::Item;
use super::tools::{Members, Tool, Tools, leaves_choice, tool};
use super::words::{Kind, Name, Within, Word, kind, unquoted};
use super::{Reach, Refused, Store, no_tool};

/// Longest piece of a request that a refusal quotes.
const MAX_QUOTE: usize = 40;

const KEPT: &str = "for an item that it kept: send the item itself (store: false)";
const FILE: &str = "for a file that it keeps: send its data";
const UNKNOWN: &str = "for what no API known here has: leave it out";
const ADDRESS: &str = "to fetch an address: send a data: URL";

/// What was found so far, and where the scan is.
#[derive(Debug, Default)]
pub(crate) struct Look {
    frames: Vec<Frame>,
    /// Levels below the one in which nothing is the API's.
    free: usize,
    /// The member of the request that the scan is in, without its quotes.
    param: Range<usize>,
    within: Within,
    /// How deep the object stands whose member that is: 1 for the request, more for what its SDK would have put into it.
    base: usize,
    refused: Option<Refused>,
    tools: Tools,
    store: Store,
    /// Members that are left out, in order.
    left_out: Vec<Range<usize>>,
}

/// An object or a list that the scan is in.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says a thing of its own, and any of them may go together"
)]
struct Frame {
    start: usize,
    is_object: bool,
    /// What the name of the member says that is being read; of a list the one that it stands under.
    word: Word,
    /// The one that it stands under.
    under: Word,
    /// Whether it stands under the name of a picture, a sound or a file.
    is_media: bool,
    /// Whether it is a tool, or a list of them; how deep in others.
    tools: u8,
    /// What its members say, of a tool.
    tool: Members,
    /// What its type says, of anything else.
    kind: Option<Kind>,
    /// Whether its members are the request's: it is the request, or what its SDK would have put into it, or a list of such.
    is_request: bool,
    /// Where the name of the member begins that is being read, and where the one before it ended.
    name: usize,
    ended: usize,
    /// Whether the member that is being read is one of the request that no API has.
    is_unknown: bool,
    /// Whether it, or after it the last one, is left out.
    is_left_out: bool,
    /// Whether one of the members so far is not.
    has_kept: bool,
    /// Whether it says where something is: by a [`Word::Link`], which does not count where a text is from there, or else by
    /// a [`Word::Place`], which counts of a picture.
    says_where: Option<Word>,
    /// Where the name of the member is that is being read, with its quotes, of an object.
    key: Range<usize>,
    /// Whether an address or a path is in it, under a name that is not of a text: it counts of a file.
    has_place: bool,
    /// What it says of what its server keeps.
    item: Item,
}

impl Frame {
    /// An address or a path is in the member that is being read.
    fn place(&mut self, text: &[u8]) {
        self.has_place |= !self.is_request
            && self.tools == 0
            && (self.key.is_empty() || !Name::of(&text[self.key.clone()]).is_of_text());
    }
}

impl Look {
    pub(crate) fn done(self) -> Reach {
        let mut refused = self.refused;
        let less = self.tools.less().unwrap_or_else(|kind| {
            refused.get_or_insert_with(|| no_tool(&kind));
            None
        });
        Reach { refused, less, store: self.store, left_out: self.left_out }
    }

    pub(crate) fn key(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free > 0 {
            return;
        }
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return };
        let name = Name::of(&text[start..end]);
        frame.key = start..end;
        frame.is_unknown = frame.is_request && !name.is_known();
        frame.word = if frame.is_request {
            if let Some(last) = self.left_out.last_mut().filter(|_| frame.is_left_out && !frame.has_kept) {
                // The comma behind it, where there is none to be left out in front of it.
                last.end = start;
            }
            (frame.name, frame.is_left_out) = (start, false);
            (self.base, self.within) = (depth, name.opens());
            if depth == 1 {
                self.param = start + 1..end - 1;
                self.store.is_said |= name.is_store();
            }
            name.of_request()
        } else if frame.tools > 0 {
            // Of a tool its type says something, and what is in it; of some their only member does.
            frame.tool.key(&name, start + 1..end - 1);
            match name.letters() {
                b"type" => Word::Type,
                b"tools" => Word::Tools,
                _ => Word::Free,
            }
        } else {
            frame.item.key(&name, self.within == Within::Input);
            name.within(self.within, depth + 1 - self.base)
        };
    }

    pub(crate) fn open(&mut self, text: &[u8], start: usize, is_object: bool) {
        let above = self.frames.last_mut();
        let (mut is_unknown, mut is_request) = (false, true);
        let (word, in_list, is_media, tools) = above.map_or((Word::Any, false, false, 0), |above| {
            if above.word == Word::Type && above.tools > 0 {
                // No kind of a tool that anybody knows.
                above.tool.say(Tool::Servers, 0..0);
            }
            above.item.value(above.word);
            is_unknown = above.is_unknown;
            is_request = above.is_request && (!above.is_object || self.within == Within::Extra);
            (above.word, !above.is_object, above.is_media, above.tools)
        });
        let depth = self.frames.len();
        if self.free == 0 {
            // Notes are texts and numbers.
            let is_no_note = self.is_in_notes() && (depth > self.base || !is_object);
            if is_no_note || matches!(word, Word::Never | Word::NeverTrue | Word::Store) {
                self.never(text);
            } else if is_unknown && word.is_of_files() {
                self.refuse(text, UNKNOWN);
            } else if is_unknown {
                self.leave_out();
                self.free += 1;
                return;
            }
        }
        let is_free = match word {
            Word::Free => true,
            Word::Input | Word::Call => is_object && !in_list,
            _ => false,
        };
        if self.free > 0 || is_free {
            self.free += 1;
            return;
        }
        let mut frame = Frame {
            start,
            is_object,
            word: if is_object { Word::Any } else { word },
            under: word,
            is_media: matches!(word, Word::Media | Word::Attached) || in_list && is_media,
            tools: 0,
            tool: Members::default(),
            kind: None,
            is_request,
            name: 0,
            ended: 0,
            is_unknown: false,
            is_left_out: false,
            has_kept: false,
            says_where: None,
            key: 0..0,
            has_place: false,
            item: Item::default(),
        };
        if word == Word::Tools {
            // A list, or a tool in one.
            frame.tools = tools.max(1);
            if is_object && in_list {
                frame.tools += 1;
            }
            if depth == 1 {
                self.tools.lists += 1;
            }
        }
        if depth == 0 {
            self.store.at = start + 1;
        }
        self.frames.push(frame);
    }

    pub(crate) fn close(&mut self, text: &[u8], end: usize) {
        if self.free > 0 {
            self.free -= 1;
        } else if let Some(frame) = self.frames.pop() {
            self.closed(text, end, &frame);
            if frame.is_request {
                self.within = Within::Extra;
                self.store.is_alone = !frame.has_kept;
            }
        }
        self.ends(end);
    }

    fn closed(&mut self, text: &[u8], end: usize, frame: &Frame) {
        let is_media = frame.is_media || frame.kind.is_some_and(Kind::is_media);
        // Within what is fetched nothing only says where a text is from.
        let is_fetched = match frame.says_where {
            Some(Word::Link) => frame.kind != Some(Kind::Source) || frame.under != Word::Any,
            Some(_) => is_media,
            None => false,
        };
        let is_file = is_media || frame.kind.is_some_and(Kind::is_of_files);
        if is_fetched || is_file && frame.has_place {
            self.refuse(text, ADDRESS);
        }
        // What says nothing of its own kind is a part of what it is in.
        let is_part = frame.has_place && !frame.kind.is_some_and(Kind::is_of_text);
        if let Some(above) = self.frames.last_mut().filter(|_| is_part) {
            above.place(text);
        }
        if frame.item.is_kept_media(is_media || frame.under == Word::Address) {
            self.refuse(text, FILE);
        }
        // The items are what the request's `input` is, or is a list of.
        if frame.is_object && self.frames.len() <= self.base + 1 && frame.item.is_reference(frame.kind) {
            self.refuse(text, KEPT);
        }
        if frame.tools == 0 {
            return;
        }
        let is_requests = self.within == Within::Tools && self.base == 1;
        let depth = self.frames.len();
        if !frame.is_object {
            if is_requests && depth == 1 {
                self.tools.span = frame.start..end;
            }
            return;
        }
        let kind = || quoted(text, frame.tool.kind.clone());
        match frame.tool.whose() {
            Tool::Callers if is_requests && depth == 2 => self.tools.left.push(frame.start..end),
            Tool::Callers => (),
            Tool::Optional if is_requests && depth == 2 => {
                self.tools.optional.get_or_insert_with(kind);
            }
            Tool::Optional | Tool::Servers => {
                let refused = no_tool(&kind());
                self.refused.get_or_insert(refused);
            }
        }
    }

    pub(crate) fn string(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free == 0 {
            self.said(text, start, end);
            self.ends(end);
        }
    }

    fn said(&mut self, text: &[u8], start: usize, end: usize) {
        let said = &text[start..end];
        let Some(frame) = self.frames.last_mut() else { return };
        // An empty text is none.
        if said.len() > 2 {
            frame.item.value(frame.word);
        }
        if matches!(frame.word, Word::Any | Word::Place | Word::Data | Word::Attached) && says_where(said) {
            frame.place(text);
        }
        match frame.word {
            Word::Attached if says_where(said) => self.refuse(text, ADDRESS),
            // In the request itself there is nothing that only names one.
            Word::Link if !is_data(said) && !frame.is_request => frame.says_where = Some(Word::Link),
            Word::Link | Word::Address if !is_data(said) => self.refuse(text, ADDRESS),
            Word::Media if !is_plain_data(said) => self.refuse(text, ADDRESS),
            Word::Data if frame.is_media && !is_plain_data(said) => self.refuse(text, ADDRESS),
            Word::Modality if said.len() > 2 && *unquoted(said) != *b"text" => self.refuse(text, ADDRESS),
            Word::Kept if said.len() > 2 => self.refuse(text, FILE),
            Word::Never if said.len() > 2 => self.never(text),
            // A tool by its name alone.
            Word::Tools | Word::NeverTrue | Word::Store => self.never(text),
            // Without a picture it would be another request; without an empty text it is the same.
            word if frame.is_unknown && said.len() > 2 && word.is_of_files() => self.refuse(text, UNKNOWN),
            _ if frame.is_unknown => self.leave_out(),
            Word::Type if frame.tools > 0 => {
                let whose = tool(&unquoted(said));
                frame.tool.say(whose, start + 1..end - 1);
            }
            // An empty type is none.
            Word::Type if said.len() == 2 => frame.item.untyped(),
            Word::Type => match kind(&unquoted(said)) {
                Kind::Kept => self.refuse(text, KEPT),
                // Of several, which of them a server reads nobody knows.
                kind if frame.kind.is_none() || kind.is_media() => frame.kind = Some(kind),
                Kind::File if !frame.kind.is_some_and(Kind::is_media) => frame.kind = Some(Kind::File),
                kind if frame.kind != Some(kind) && !frame.kind.is_some_and(Kind::is_of_files) => {
                    frame.kind = Some(Kind::Any);
                }
                _ => (),
            },
            Word::Choice => self.tools.is_forced |= !leaves_choice(&unquoted(said)),
            Word::Place if !is_data(said) => {
                frame.says_where.get_or_insert(Word::Place);
            }
            Word::Data if !is_plain_data(said) => {
                frame.says_where.get_or_insert(Word::Place);
            }
            _ => (),
        }
    }

    /// The member of the request that is being read does not go to another's backend.
    fn leave_out(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.is_left_out = true;
        }
    }

    /// A value ends here: of a member of the request, too, unless it is in it.
    fn ends(&mut self, end: usize) {
        let Some(frame) = self.frames.last_mut() else { return };
        if self.free > 0 || !(frame.is_request && frame.is_object) {
            return;
        }
        if frame.is_left_out {
            // With the comma in front of it, if there has to be one.
            let start = if frame.has_kept { frame.ended } else { frame.name };
            self.left_out.push(start..end);
        } else {
            frame.has_kept = true;
        }
        frame.ended = end;
    }

    /// Whether the member of the request that is being read is its caller's notes, and its servers' configuration.
    fn is_in_notes(&self) -> bool {
        matches!(self.within, Within::Metadata | Within::MetadataLike)
    }

    /// A number, a literal, or an empty list or object.
    pub(crate) fn scalar(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free == 0 {
            self.simple(text, start, end);
            self.ends(end);
        }
    }

    fn simple(&mut self, text: &[u8], start: usize, end: usize) {
        let Some(frame) = self.frames.last_mut() else { return };
        if text[start..end] != *b"null" {
            frame.item.value(frame.word);
        }
        match (frame.word, &text[start..end]) {
            // -1 is any slot to llama.cpp, and an empty list asks for nothing.
            (Word::Never, said) if *said != *b"-1" && !says_no(said) && !said.starts_with(b"[") => {
                self.never(text);
            }
            (Word::NeverTrue | Word::Store, said) if !says_no(said) => self.never(text),
            _ if frame.is_unknown => self.leave_out(),
            (Word::Type, b"null") => frame.item.untyped(),
            (Word::Type, _) if frame.tools > 0 => frame.tool.say(Tool::Servers, 0..0),
            (Word::Store, b"null") if frame.is_request => self.store.nulls.push(start..end),
            _ => (),
        }
    }

    fn never(&mut self, text: &[u8]) {
        self.refuse(text, "for what is its owner's alone");
    }

    fn refuse(&mut self, text: &[u8], what: &str) {
        if self.refused.is_none() {
            self.refused = Some(Refused { param: quoted(text, self.param.clone()), what: what.to_owned() });
        }
    }
}

/// Whether a literal says that something is not asked for.
fn says_no(literal: &[u8]) -> bool {
    matches!(literal, b"null" | b"false")
}

/// A piece of a request that stands in a refusal, as much as tells which one it is: a name of the API's.
fn quoted(text: &[u8], at: Range<usize>) -> String {
    let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let bytes = text[at].iter().take_while(plain).take(MAX_QUOTE);
    bytes.map(|byte| char::from(*byte)).collect()
}
