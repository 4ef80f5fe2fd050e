//! The tools of a request: where each runs, and which of them the model can do without.

use std::ops::Range;

use super::name::MemberName;

/// Where a tool runs; the later variant prevails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ToolRunner {
    /// At the caller.
    Caller,
    /// On the server, and the model can do without it.
    OptionalServer,
    /// On the server.
    Server,
}

impl ToolRunner {
    /// Where a tool of this type runs: on the server if the type is unknown.
    pub(super) fn of(kind: &[u8]) -> Self {
        /// Prefixes of types with a date as version, which run at the caller.
        const DATED: [&[u8]; 4] = [b"bash_", b"text_editor_", b"computer_", b"memory_"];
        /// Prefixes of searches of the Responses API, with a date such as `2025_08_26`. The Messages API writes the date as one
        /// number, and its answers contain the results, so that its searches cannot be left out unnoticed.
        const SEARCHES: [&[u8]; 2] = [b"web_search_", b"web_search_preview_"];

        let version = |prefix: &[u8]| kind.strip_prefix(prefix);
        let is_date =
            |rest: &[u8]| rest.starts_with(b"2") && rest.get(4) == Some(&b'_') && rest.get(7) == Some(&b'_');
        match kind {
            b"function" | b"custom" | b"namespace" | b"local_shell" | b"apply_patch" | b"tool_search" => {
                Self::Caller
            }
            b"web_search" | b"web_search_preview" | b"image_generation" => Self::OptionalServer,
            _ if SEARCHES.iter().any(|prefix| version(prefix).is_some_and(is_date)) => Self::OptionalServer,
            _ if DATED.iter().any(|prefix| version(prefix).is_some_and(|rest| rest.starts_with(b"2"))) => {
                Self::Caller
            }
            _ => Self::Server,
        }
    }
}

/// Whether a tool choice of this type does not force the use of a tool that can be left out.
pub(super) fn leaves_choice(kind: &[u8]) -> bool {
    matches!(kind, b"auto" | b"none" | b"tool" | b"allowed_tools")
        || ToolRunner::of(kind) == ToolRunner::Caller
}

/// What the members of one tool say about it.
#[derive(Debug, Default)]
pub(super) struct ToolMembers {
    /// The maximum of what its types and members say, because servers differ in which of them they read.
    runner: Option<ToolRunner>,
    /// The type or the name of the member that determined `runner`.
    pub(super) kind: Range<usize>,
    has_name: bool,
    /// Whether it is declared like a function.
    is_declared: bool,
}

impl ToolMembers {
    /// Records that the tool runs at `runner` according to the text at `kind`.
    pub(super) fn set_runner(&mut self, runner: ToolRunner, kind: Range<usize>) {
        if self.runner.is_none_or(|known| runner > known) {
            (self.runner, self.kind) = (Some(runner), kind);
        }
    }

    /// Records a member whose name is at `place`.
    pub(super) fn key(&mut self, name: &MemberName, place: Range<usize>) {
        match name.letters() {
            b"name" => self.has_name = true,
            b"function" | b"functiondeclarations" | b"inputschema" | b"parameters" => self.is_declared = true,
            // Google names its server tools by a member, and some servers accept OpenAI's that way.
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
            | b"mcpservers" => self.set_runner(ToolRunner::Server, place),
            b"websearch" | b"imagegeneration" => self.set_runner(ToolRunner::OptionalServer, place),
            _ => (),
        }
    }

    /// Where the tool runs. A tool with neither type nor declaration is a server tool if it has a name; else it is unknown to
    /// every API, and harmless.
    pub(super) fn runner(&self) -> ToolRunner {
        let is_named_alone = self.has_name && !self.is_declared;
        self.runner.unwrap_or(if is_named_alone { ToolRunner::Server } else { ToolRunner::Caller })
    }
}

/// The request's list of tools.
#[derive(Debug, Default)]
pub(super) struct ToolList {
    /// Number of lists: more than one if the key is repeated.
    pub(super) count: usize,
    pub(super) list: Range<usize>,
    /// The tools that run at the caller.
    pub(super) kept: Vec<Range<usize>>,
    /// The type of the first [`ToolRunner::OptionalServer`] tool.
    pub(super) left_out: Option<String>,
    /// Whether the tool choice can force the use of a tool that is left out.
    pub(super) is_forced: bool,
}

/// A list of tools, some of which are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReducedTools {
    pub(super) list: Range<usize>,
    pub(super) kept: Vec<Range<usize>>,
    /// The type of the first tool that is left out.
    pub(super) left_out: String,
}

impl ToolList {
    /// Leaves out the optional tools of the server, if there are any. Fails with the type of one that cannot be left out,
    /// because its use is forced or because no other tool remains.
    pub(super) fn reduce(self) -> Result<Option<ReducedTools>, String> {
        let Some(left_out) = self.left_out else { return Ok(None) };
        if self.count == 1 && !self.kept.is_empty() && !self.is_forced {
            return Ok(Some(ReducedTools { list: self.list, kept: self.kept, left_out }));
        }
        Err(left_out)
    }
}
