//! The tools of a request: whose each of them is, and which of them it can do without.

use std::ops::Range;

use super::words::Name;

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
    /// Searches of the Responses API, with a date (`2025_08_26`). Of the Messages API the date is one number, and the
    /// server's answer has the results: it cannot be left out unseen.
    const SEARCHES: [&[u8]; 2] = [b"web_search_", b"web_search_preview_"];

    let rest_of = |name: &[u8]| kind.strip_prefix(name);
    let is_date =
        |rest: &[u8]| rest.starts_with(b"2") && rest.get(4) == Some(&b'_') && rest.get(7) == Some(&b'_');
    match kind {
        b"function" | b"custom" | b"namespace" | b"local_shell" | b"apply_patch" | b"tool_search" => {
            Tool::Callers
        }
        b"web_search" | b"web_search_preview" | b"image_generation" => Tool::Optional,
        _ if SEARCHES.iter().any(|name| rest_of(name).is_some_and(is_date)) => Tool::Optional,
        _ if DATED.iter().any(|name| rest_of(name).is_some_and(|rest| rest.starts_with(b"2"))) => {
            Tool::Callers
        }
        _ => Tool::Servers,
    }
}

/// Whether a choice of this kind leaves it to the model, or is of a tool that stays.
pub(super) fn leaves_choice(kind: &[u8]) -> bool {
    matches!(kind, b"auto" | b"none" | b"tool" | b"allowed_tools") || tool(kind) == Tool::Callers
}

/// What the members of a tool say of it.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The worst of what its types and its members say: which of them a server reads nobody knows.
    pub(super) tool: Option<Tool>,
    /// Where that is said.
    pub(super) kind: Range<usize>,
    has_name: bool,
    /// It is declared as a function is.
    is_declared: bool,
}

impl Members {
    /// It is `tool`, as is said at `place`.
    pub(super) fn say(&mut self, tool: Tool, place: Range<usize>) {
        if self.tool.is_none_or(|known| tool as u8 > known as u8) {
            (self.tool, self.kind) = (Some(tool), place);
        }
    }

    /// It has a member `name`, whose place this is.
    pub(super) fn key(&mut self, name: &Name, place: Range<usize>) {
        match name.letters() {
            b"name" => self.has_name = true,
            b"function" | b"functiondeclarations" | b"inputschema" | b"parameters" => self.is_declared = true,
            // A server's tool by its name alone: Google's are so, and some take those of OpenAI's kinds so.
            b"googlesearch"
            | b"googlesearchretrieval"
            | b"enterprisewebsearch"
            | b"googlemaps"
            | b"retrieval"
            | b"urlcontext"
            | b"codeexecution"
            | b"codeinterpreter"
            | b"filesearch"
            | b"computeruse"
            | b"mcp"
            | b"mcpservers" => self.say(Tool::Servers, place),
            b"websearch" | b"imagegeneration" => self.say(Tool::Optional, place),
            _ => (),
        }
    }

    /// Whose it is. Without a type a name alone is that of a server's; what no API knows is nobody's, and passes.
    pub(super) fn whose(&self) -> Tool {
        let is_named_alone = self.has_name && !self.is_declared;
        self.tool.unwrap_or(if is_named_alone { Tool::Servers } else { Tool::Callers })
    }
}

/// The request's list of tools.
#[derive(Debug, Default)]
pub(super) struct Tools {
    /// Lists; more than one where the key is given twice.
    pub(super) lists: usize,
    pub(super) span: Range<usize>,
    /// Those that are left where those are left out that the model can do without.
    pub(super) left: Vec<Range<usize>>,
    /// The kind of one that is left out.
    pub(super) optional: Option<String>,
    /// Whether one of them has to be called.
    pub(super) is_forced: bool,
}

/// A list of tools of which some are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Less {
    pub(super) list: Range<usize>,
    pub(super) left: Vec<Range<usize>>,
    /// The kind of one that is left out.
    pub(super) kind: String,
}

impl Tools {
    /// The list without what the model can do without, if there is such; an error where it cannot.
    pub(super) fn less(self) -> Result<Option<Less>, String> {
        let Some(kind) = self.optional else { return Ok(None) };
        if self.lists == 1 && !self.left.is_empty() && !self.is_forced {
            return Ok(Some(Less { list: self.span, left: self.left, kind }));
        }
        Err(kind)
    }
}
