//! Follows a JSON scan through a request and collects what the policy refuses or leaves out.

use std::ops::Range;

use super::container::Container;
use super::known::{is_known_quoted, is_metadata_name, is_template_variable};
use super::name::MemberName;
use super::roles::{MemberRole, Section, nested_role, request_role};
use super::tools::{ToolList, ToolRunner};
use super::{PolicyReport, Refusal, StoreMembers};

/// Maximum length of a name that a refusal quotes, in bytes.
const MAX_QUOTE: usize = 40;

pub(super) const STORED_ITEM: &str = "for an item that it kept: send the item itself (store: false)";
pub(super) const STORED_FILE: &str = "for a file that it keeps: send its data";
pub(super) const UNKNOWN: &str = "for what no API known here has: leave it out";
pub(super) const URL: &str = "to fetch an address: send a data: URL";
pub(super) const TEXT: &str = "to read a text as JSON: send an object";

/// The scanner's position, and what it found so far.
#[derive(Debug, Default)]
pub(crate) struct PolicyScanner {
    pub(super) stack: Vec<Container>,
    /// Number of open containers inside an opaque value, the value included.
    pub(super) opaque_depth: usize,
    /// The request member being read, without quotes.
    param: Range<usize>,
    section: Section,
    /// Depth of the object that the request member belongs to: 1 for the request, more for an `extra_body`.
    base: usize,
    pub(super) refusal: Option<Refusal>,
    pub(super) tools: ToolList,
    pub(super) store: StoreMembers,
    unknown: Vec<Range<usize>>,
}

impl PolicyScanner {
    pub(crate) fn finish(self) -> PolicyReport {
        let mut refusal = self.refusal;
        let reduced_tools = self.tools.reduce().unwrap_or_else(|kind| {
            refusal.get_or_insert_with(|| Refusal::tool(&kind));
            None
        });
        PolicyReport { refusal, reduced_tools, store: self.store, unknown: self.unknown }
    }

    pub(crate) fn key(&mut self, text: &[u8], start: usize, end: usize) {
        if self.opaque_depth > 0 {
            return;
        }
        let depth = self.stack.len();
        let Some(object) = self.stack.last_mut() else { return };
        let name = MemberName::of(&text[start..end]);
        object.key = start..end;
        object.role = if object.is_request {
            if let Some(last) = self.unknown.last_mut().filter(|_| object.is_left_out && !object.has_kept) {
                // Nothing is kept before the member, so the comma behind it is left out.
                last.end = start;
            }
            // A near miss is left out too, and its value inspected: some servers read it, and what they would do is refused.
            (object.is_left_out, object.is_unknown) = if object.is_metadata {
                // What some server or gateway acts on is refused, whether it is left out or not.
                (!is_metadata_name(&text[start..end]), false)
            } else if object.is_template {
                let is_variable = is_template_variable(&text[start..end]);
                (!is_variable, !is_variable)
            } else {
                // The request's own ones are set by the row and the hub; some proxies let nested ones override them.
                let is_override =
                    depth > 1 && matches!(name.letters(), b"model" | b"stream" | b"streamoptions");
                // A known name is nearly known, too, so most unknown ones take one look-up.
                let is_nearly_known = name.is_nearly_known();
                let is_known = !is_override && is_nearly_known && is_known_quoted(&text[start..end]);
                (!is_known, !is_known && (is_override || !is_nearly_known))
            };
            object.member_start = start;
            if object.is_metadata {
                object.role = nested_role(&name, self.section, depth + 1 - self.base);
                return;
            }
            (self.base, self.section) = (depth, Section::of(&name));
            if depth == 1 {
                self.param = start + 1..end - 1;
                self.store.is_present |= name.is_store();
            }
            request_role(&name)
        } else if object.tool_depth > 0 {
            // A tool is judged by its type and by the names of its members.
            object.tool.key(&name, start + 1..end - 1);
            match name.letters() {
                b"type" => MemberRole::Type,
                b"tools" => MemberRole::Tools,
                _ => MemberRole::Opaque,
            }
        } else {
            object.item.key(&name, self.section == Section::Input);
            nested_role(&name, self.section, depth + 1 - self.base)
        };
    }

    pub(crate) fn open(&mut self, text: &[u8], start: usize, is_object: bool) {
        let parent = self.stack.last_mut();
        let (mut is_unknown, mut is_request) = (false, true);
        let (mut is_template, mut is_metadata) = (false, false);
        let (role, in_array, is_media, tool_depth) =
            parent.map_or((MemberRole::Plain, false, false, 0), |parent| {
                if parent.role == MemberRole::Type && parent.tool_depth > 0 {
                    // A type that is no string.
                    parent.tool.set_runner(ToolRunner::Server, 0..0);
                }
                parent.item.value(parent.role);
                is_unknown = parent.is_unknown;
                let is_section = |section| parent.is_object && self.section == section;
                is_template = parent.is_template && !parent.is_object
                    || parent.is_request && is_section(Section::Template);
                is_metadata = is_object
                    && parent.is_request
                    && (is_section(Section::Metadata) || is_section(Section::MisspelledMetadata));
                is_request = is_template
                    || is_metadata
                    || parent.is_request && (!parent.is_object || is_section(Section::ExtraBody));
                (parent.role, !parent.is_object, parent.is_media, parent.tool_depth)
            });
        let depth = self.stack.len();
        if self.opaque_depth == 0 {
            // Metadata is an object of strings and numbers.
            let is_in_metadata = matches!(self.section, Section::Metadata | Section::MisspelledMetadata);
            let is_nested_metadata = is_in_metadata && (depth > self.base || !is_object);
            if is_nested_metadata || role.is_owner_only() {
                self.refuse_owner_only(text);
            } else if is_unknown && role.is_media() {
                self.refuse(text, UNKNOWN);
            } else if is_unknown {
                self.opaque_depth += 1;
                return;
            }
        }
        let is_opaque = match role {
            MemberRole::Opaque => true,
            MemberRole::CallInput | MemberRole::Function => is_object && !in_array,
            _ => false,
        };
        if self.opaque_depth > 0 || is_opaque {
            self.opaque_depth += 1;
            return;
        }
        let mut container = Container {
            start,
            is_object,
            role: if is_object { MemberRole::Plain } else { role },
            parent_role: role,
            is_media: matches!(role, MemberRole::Media | MemberRole::Attachments) || in_array && is_media,
            is_request,
            is_template,
            is_metadata,
            ..Container::default()
        };
        if role == MemberRole::Tools {
            container.tool_depth = tool_depth.max(1);
            if is_object && in_array {
                container.tool_depth += 1;
            }
            if depth == 1 {
                self.tools.count += 1;
            }
        }
        if depth == 0 {
            self.store.insert_at = start + 1;
        }
        self.stack.push(container);
    }

    pub(crate) fn close(&mut self, text: &[u8], end: usize) {
        if self.opaque_depth > 0 {
            self.opaque_depth -= 1;
        } else if let Some(container) = self.stack.pop() {
            self.check_container(text, &container);
            if container.tool_depth > 0 {
                self.check_tool(text, end, &container);
            }
            if container.is_request && !container.is_metadata {
                self.section = Section::ExtraBody;
                self.store.is_alone = !container.has_kept;
            }
        }
        self.end_value(end);
    }

    /// Applies the rules on locations and stored items to a container that was just popped.
    fn check_container(&mut self, text: &[u8], container: &Container) {
        if container.fetches_location() {
            self.refuse(text, URL);
        }
        if let Some(parent) = self.stack.last_mut().filter(|_| container.exports_location()) {
            parent.add_location(text);
        }
        if container.is_cached_media() {
            self.refuse(text, STORED_FILE);
        }
        // `input` is one item or an array of items.
        let is_item = container.is_object && self.stack.len() <= self.base + 1;
        if is_item && container.item.is_reference(container.object_type) {
            self.refuse(text, STORED_ITEM);
        }
    }

    /// Applies the rules on tools to a tool, or a list of tools, that was just popped.
    fn check_tool(&mut self, text: &[u8], end: usize, container: &Container) {
        let is_sent = self.stack.first().is_some_and(|request| !request.is_left_out);
        let is_requests = self.section == Section::Tools && self.base == 1 && is_sent;
        let depth = self.stack.len();
        if !container.is_object {
            if is_requests && depth == 1 {
                self.tools.list = container.start..end;
            }
            return;
        }
        let kind = || quote(text, container.tool.kind.clone());
        match container.tool.runner() {
            ToolRunner::Caller if is_requests && depth == 2 => self.tools.kept.push(container.start..end),
            ToolRunner::Caller => (),
            ToolRunner::OptionalServer if is_requests && depth == 2 => {
                self.tools.left_out.get_or_insert_with(kind);
            }
            ToolRunner::OptionalServer | ToolRunner::Server => {
                let refusal = Refusal::tool(&kind());
                self.refusal.get_or_insert(refusal);
            }
        }
    }

    /// Records the end of a value, if it is the value of a request member.
    pub(super) fn end_value(&mut self, end: usize) {
        let Some(request) = self.stack.last_mut() else { return };
        if self.opaque_depth > 0 || !(request.is_request && request.is_object) {
            return;
        }
        if request.is_left_out {
            // The comma before the member is left out, if a kept member precedes it.
            let start = if request.has_kept { request.previous_end } else { request.member_start };
            let first = request.member_start;
            drop_from(&mut self.unknown, first);
            drop_from(&mut self.store.nulls, first);
            self.unknown.push(start..end);
        } else {
            request.has_kept = true;
        }
        request.previous_end = end;
    }

    /// Whether the value of the request member being read has to be an object: some gateways parse a text in its place.
    pub(super) fn expects_object(&self) -> bool {
        let is_members = self.stack.last().is_some_and(|request| request.is_request && !request.is_metadata);
        is_members && self.section.is_object()
    }

    pub(super) fn refuse_owner_only(&mut self, text: &[u8]) {
        self.refuse(text, "for what is its owner's alone");
    }

    /// Records a refusal of the request member being read; the first refusal counts.
    pub(super) fn refuse(&mut self, text: &[u8], request: &str) {
        if self.refusal.is_none() {
            self.refusal =
                Some(Refusal { param: quote(text, self.param.clone()), request: request.to_owned() });
        }
    }
}

/// Removes the ranges, which are in order, that begin at `first` or later.
fn drop_from(ranges: &mut Vec<Range<usize>>, first: usize) {
    // There are none after most members.
    while ranges.pop_if(|range| range.start >= first).is_some() {}
}

/// The leading part of a name that is safe to quote in an error message.
fn quote(text: &[u8], name: Range<usize>) -> String {
    let is_plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let bytes = text[name].iter().take_while(is_plain).take(MAX_QUOTE);
    bytes.map(|byte| char::from(*byte)).collect()
}
