//! Follows a scan through a request. Pure.

use std::ops::Range;

use super::words::{
    Tool, Word, is_data, is_plain_data, is_servers, of_member, of_request, only_names, tool, unquoted,
};
use super::{Reach, Refused};

/// Longest piece of a request that a refusal quotes.
const MAX_QUOTE: usize = 40;

const ADDRESS: &str = "to fetch an address: send a data: URL";

/// What was found so far, and where the scan is.
#[derive(Debug, Default)]
pub(crate) struct Look {
    frames: Vec<Frame>,
    /// Levels below the one in which nothing is the API's.
    free: usize,
    /// The member of the request that the scan is in, without its quotes.
    param: Range<usize>,
    refused: Option<Refused>,
    tools: Tools,
}

/// The request's list of tools.
#[derive(Debug, Default)]
struct Tools {
    /// Lists; more than one where the key is given twice.
    lists: usize,
    span: Range<usize>,
    /// Those that are left where those are left out that the model can do without.
    left: Vec<Range<usize>>,
    /// The kind of one that is left out.
    optional: Option<String>,
    /// Whether one of them has to be called.
    is_forced: bool,
}

/// An object or a list that the scan is in.
#[derive(Debug)]
struct Frame {
    start: usize,
    is_object: bool,
    /// What the name of the member says that is being read; of a list the one that it stands under.
    word: Word,
    /// Whether it stands under the name of a picture, a sound or a file.
    is_media: bool,
    /// Whether it is a tool, or a list of them; how deep in others.
    tools: u8,
    /// What its types say: of a tool whose it is, else whether it only names addresses.
    tool: Option<Tool>,
    only_names: Option<bool>,
    /// Whether it holds an address itself, which does not count where it only names it.
    has_address: bool,
    /// Where the type of a tool stands that its caller does not run.
    kind: Range<usize>,
}

impl Look {
    pub(crate) fn done(self) -> Reach {
        let mut refused = self.refused;
        let tools = self.tools;
        let less = match tools.optional {
            Some(_) if tools.lists == 1 && !tools.left.is_empty() && !tools.is_forced => {
                Some((tools.span, tools.left))
            }
            Some(kind) => {
                refused.get_or_insert_with(|| no_tool(&kind));
                None
            }
            None => None,
        };
        Reach { refused, less }
    }

    pub(crate) fn key(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free > 0 {
            return;
        }
        let depth = self.frames.len();
        let name = unquoted(&text[start..end]);
        let in_documents = depth == 3 && text[self.param.clone()] == *b"documents";
        let Some(frame) = self.frames.last_mut() else { return };
        frame.word = match (depth, frame.tools) {
            (1, _) => {
                self.param = start + 1..end - 1;
                of_request(&name)
            }
            (_, 0) if in_documents && &*name == b"url" => Word::Any,
            (_, 0) => of_member(&name),
            // Of a tool its type alone says something, and what is in it; in Google's API its only member does.
            _ => match &*name {
                b"type" => Word::Type,
                b"tools" => Word::Tools,
                name => {
                    if is_servers(name) {
                        (frame.tool, frame.kind) = (Some(Tool::Servers), start + 1..end - 1);
                    }
                    Word::Free
                }
            },
        };
    }

    pub(crate) fn open(&mut self, text: &[u8], start: usize, is_object: bool) {
        let above = self.frames.last();
        let word = above.map_or(Word::Any, |frame| frame.word);
        let in_list = above.is_some_and(|frame| !frame.is_object);
        let is_free = match word {
            Word::Free | Word::Choice => true,
            Word::Input | Word::Call => is_object,
            _ => false,
        };
        if word == Word::Choice && self.free == 0 {
            self.tools.is_forced = true;
        }
        if self.free > 0 || is_free {
            self.free += 1;
            return;
        }
        let depth = self.frames.len();
        let mut frame = Frame {
            start,
            is_object,
            word: if is_object { Word::Any } else { word },
            is_media: word == Word::Media || above.is_some_and(|frame| !frame.is_object && frame.is_media),
            tools: 0,
            tool: None,
            only_names: None,
            has_address: false,
            kind: 0..0,
        };
        match word {
            Word::Tools => {
                // A list, or a tool in one.
                frame.tools = above.map_or(1, |frame| frame.tools.max(1));
                if is_object && in_list {
                    frame.tools += 1;
                }
                if depth == 1 {
                    self.tools.lists += 1;
                }
            }
            Word::Never | Word::NeverObject if is_object || word == Word::Never => self.never(text),
            _ => (),
        }
        self.frames.push(frame);
    }

    pub(crate) fn close(&mut self, text: &[u8], end: usize) {
        if self.free > 0 {
            self.free -= 1;
            return;
        }
        let Some(frame) = self.frames.pop() else { return };
        if frame.has_address && frame.only_names != Some(true) {
            self.refuse(text, ADDRESS);
        }
        if frame.tools == 0 {
            return;
        }
        let depth = self.frames.len();
        if !frame.is_object {
            if depth == 1 {
                self.tools.span = frame.start..end;
            }
            return;
        }
        let whose = frame.tool.unwrap_or(Tool::Callers);
        let kind = || quoted(text, frame.kind.clone());
        match whose {
            Tool::Callers if depth == 2 => self.tools.left.push(frame.start..end),
            Tool::Callers => (),
            Tool::Optional if depth == 2 => {
                self.tools.optional.get_or_insert_with(kind);
            }
            Tool::Optional | Tool::Servers => {
                let refused = no_tool(&kind());
                self.refused.get_or_insert(refused);
            }
        }
    }

    pub(crate) fn string(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free > 0 {
            return;
        }
        let (said, depth) = (&text[start..end], self.frames.len());
        let Some(frame) = self.frames.last_mut() else { return };
        match frame.word {
            Word::Type if frame.tools > 0 => {
                let kind = unquoted(said);
                let whose = tool(&kind);
                // Of several the worst: which of them a server reads nobody knows.
                let worst = [Some(whose), frame.tool].into_iter().flatten().max_by_key(|tool| *tool as u8);
                if whose != Tool::Callers {
                    frame.kind = start + 1..end - 1;
                }
                frame.tool = worst;
            }
            Word::Type => {
                let names = only_names(&unquoted(said)) && frame.only_names != Some(false);
                frame.only_names = Some(names);
            }
            Word::Choice => self.tools.is_forced |= !matches!(&*unquoted(said), b"auto" | b"none"),
            // In the request itself there is nothing that only names one.
            Word::Address if !is_data(said) && depth > 1 => frame.has_address = true,
            Word::Address if !is_data(said) => self.refuse(text, ADDRESS),
            Word::Media if !is_plain_data(said) => self.refuse(text, ADDRESS),
            Word::Data if frame.is_media && !is_plain_data(said) => self.refuse(text, ADDRESS),
            Word::Kept if said.len() > 2 => self.refuse(text, "for a file that it keeps: send its data"),
            Word::Never if said.len() > 2 => self.never(text),
            // A tool by its name alone.
            Word::Tools => self.never(text),
            _ => (),
        }
    }

    /// A number, a literal, or an empty list or object.
    pub(crate) fn scalar(&mut self, text: &[u8], start: usize, end: usize) {
        if self.free > 0 {
            return;
        }
        let Some(frame) = self.frames.last() else { return };
        let (word, said) = (frame.word, &text[start..end]);
        match word {
            Word::Never if !matches!(said, b"null" | b"false") && !said.starts_with(b"[") => self.never(text),
            Word::NeverTrue if said == b"true" => self.never(text),
            Word::NeverObject if said.starts_with(b"{") => self.never(text),
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

fn no_tool(kind: &str) -> Refused {
    let kind = if kind.is_empty() { "of no known type" } else { kind };
    Refused { param: "tools".into(), what: format!("for a tool that runs there ({kind})") }
}

/// A piece of a request that stands in a refusal, as much as tells which one it is: a name of the API's.
fn quoted(text: &[u8], at: Range<usize>) -> String {
    let plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let bytes = text[at].iter().take_while(plain).take(MAX_QUOTE);
    bytes.map(|byte| char::from(*byte)).collect()
}
