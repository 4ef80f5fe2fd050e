//! The request policy: what a caller may ask of a backend that another user owns.
//!
//! A request can make its backend fetch a URL, run tools, store the answer or use stored items, with the network access and
//! the rights of the backend's owner. `PolicyScanner` finds such members in the pass that checks the JSON, at the positions
//! where the APIs define them. Texts, tool arguments and tool schemas can hold any name or URL and are not inspected.
//!
//! Refused members are recognized in any letter case, with and without `_`, because some servers read names that way. Allowed
//! members are recognized by their exact names: allow lists apply to the members of the request, of an `extra_body` and of
//! Ollama's `options`, and to the variables of a chat template. Deny lists apply to three places:
//! - `metadata` and `client_metadata`: their names are the caller's own. OpenAI defines 16 pairs of any name, which its answers
//!   repeat and its users search by; Codex and Claude Code send names of their own. Only texts and numbers are allowed there.
//! - Parts of messages and items of a conversation: agents send back what the backend answered, whatever it has in it.
//! - Tools and schemas: the caller defines them, and its tools run at the caller.

mod container;
mod edits;
mod item_facts;
mod known;
mod location;
mod name;
mod name_set;
mod object_type;
mod roles;
mod scanner;
mod tools;
mod values;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::json::JsonError;
use crate::json::scan::{Source, scan};
use crate::task::Endpoint;
use tools::ReducedTools;

pub use edits::Edits;
pub(crate) use scanner::PolicyScanner;

/// Whether a known API defines a request member with exactly this name. Other members are not sent to another user's backend.
pub fn is_known_member(name: &str) -> bool {
    known::is_known(name)
}

/// What the policy found in one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyReport {
    /// The first member that only the owner of the backend may send.
    refusal: Option<Refusal>,
    /// The list of tools without the optional ones that run on the server. Agents such as Codex offer
    /// these with every request.
    reduced_tools: Option<ReducedTools>,
    store: StoreMembers,
    /// Members that are left out, in order, each with one comma.
    unknown: Vec<Range<usize>>,
}

/// The request's `store` members: whether the server stores the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct StoreMembers {
    /// Offset of the request's first member.
    insert_at: usize,
    is_present: bool,
    /// Values that are null, which servers treat as absent.
    nulls: Vec<Range<usize>>,
    /// Whether no member of the request is kept, so that an inserted one needs no comma.
    is_alone: bool,
}

/// A request member that only the owner of the backend may send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The member of the request.
    pub param: String,
    /// What the member asks for, as the rest of the sentence "'param' asks 'name' …".
    request: String,
}

impl Refusal {
    /// The error message, for the LLM `name`.
    pub fn text(&self, name: &str) -> String {
        let Self { param, request } = self;
        format!(
            "'{param}' asks '{name}' {request}; only the LLM's owner may, and can allow it (allowRemoteUrls)"
        )
    }

    /// Refuses a tool that runs on the server.
    fn tool(kind: &str) -> Self {
        let kind = if kind.is_empty() { "of no known type" } else { kind };
        Self { param: "tools".into(), request: format!("for a tool that runs there ({kind})") }
    }
}

impl PolicyReport {
    /// Inspects the JSON object `text`.
    pub fn of(text: &str) -> Result<Self, JsonError> {
        let mut source = TextSource { text: text.as_bytes(), scanner: PolicyScanner::default() };
        scan(&mut source)?;
        Ok(source.scanner.finish())
    }

    /// Returns why the request must not be sent to another user's backend. `original` is the report on the request as its
    /// caller sent it; it differs from `self` if the owner of an agent added members.
    pub fn refusal(&self, original: &Self) -> Option<Refusal> {
        let needs_server_tool = || match (&original.reduced_tools, &self.reduced_tools) {
            // An added member forces the use of a tool that would be left out.
            (Some(tools), None) => Some(Refusal::tool(&tools.left_out)),
            _ => None,
        };
        original.refusal.clone().or_else(needs_server_tool)
    }

    /// Returns the edits that `text`, the inspected request, needs before it is sent to another user's backend at `endpoint`:
    /// unknown members and dispensable server tools are removed, and at the Responses API, whose servers store answers by
    /// default, `store` is set to false unless present. Members that are not in `original` stay.
    pub fn edits(&self, original: &Self, text: &str, endpoint: Endpoint) -> Edits {
        let mut edits = Vec::new();
        // Added members come behind those of the caller.
        let unknown = self.unknown.iter().take(original.unknown.len());
        edits.extend(unknown.map(|member| (member.clone(), String::new())));
        let is_empty = self.store.is_alone && edits.len() == self.unknown.len();
        if let Some(tools) = self.reduced_tools.as_ref().filter(|_| original.reduced_tools.is_some()) {
            let kept: Vec<&str> = tools.kept.iter().map(|tool| &text[tool.clone()]).collect();
            edits.push((tools.list.clone(), format!("[{}]", kept.join(","))));
        }
        if endpoint == Endpoint::Responses {
            let StoreMembers { insert_at, is_present, nulls, .. } = &self.store;
            if !is_present && *insert_at > 0 {
                let comma = if is_empty { "" } else { "," };
                edits.push((*insert_at..*insert_at, format!(r#""store":false{comma}"#)));
            }
            edits.extend(nulls.iter().map(|null| (null.clone(), "false".to_owned())));
        }
        Edits::of(edits)
    }
}

/// A [`Source`] that passes every event to the scanner.
struct TextSource<'a> {
    text: &'a [u8],
    scanner: PolicyScanner,
}

impl Source for TextSource<'_> {
    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, _: usize, _: usize) {}

    fn any_key(&mut self, start: usize, end: usize) {
        self.scanner.key(self.text, start, end);
    }

    fn open(&mut self, start: usize, is_object: bool) {
        self.scanner.open(self.text, start, is_object);
    }

    fn close(&mut self, end: usize) {
        self.scanner.close(self.text, end);
    }

    fn string(&mut self, start: usize, end: usize) {
        self.scanner.string(self.text, start, end);
    }

    fn scalar(&mut self, start: usize, end: usize) {
        self.scanner.scalar(self.text, start, end);
    }
}
