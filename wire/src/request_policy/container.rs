//! One object or array on the scanner's stack.

use std::ops::Range;

use super::item_facts::ItemFacts;
use super::name::MemberName;
use super::object_type::ObjectType;
use super::roles::MemberRole;
use super::tools::ToolMembers;

/// An object or array around the scanner's position.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts; any of them can be combined")]
pub(super) struct Container {
    pub(super) start: usize,
    pub(super) is_object: bool,
    /// Of an object, the role of the member being read. Of an array, the role of the member that holds it.
    pub(super) role: MemberRole,
    /// The role of the member that holds the container.
    pub(super) parent_role: MemberRole,
    /// Whether the member that holds the container is media or a file.
    pub(super) is_media: bool,
    /// Nesting depth in tools: 0 outside, 1 for the list of tools, 2 for a tool.
    pub(super) tool_depth: u8,
    /// The members of a tool.
    pub(super) tool: ToolMembers,
    /// The type of any other object.
    pub(super) object_type: Option<ObjectType>,
    /// Whether its members are members of the request: the request, or an `extra_body`, which SDKs merge into the request, or
    /// an array of such.
    pub(super) is_request: bool,
    /// Of a request: whether its members are the variables of a chat template instead.
    pub(super) is_template: bool,
    /// Of a request: whether it is its metadata instead, whose names are the caller's own.
    pub(super) is_metadata: bool,
    /// Of a request: offset of the name of the member being read.
    pub(super) member_start: usize,
    /// Of a request: offset of the end of the previous member.
    pub(super) previous_end: usize,
    /// Of a request: whether the member being read is left out, whatever its value is.
    pub(super) is_unknown: bool,
    /// Of a request: whether the member being read, or the last one, is left out.
    pub(super) is_left_out: bool,
    /// Of a request: whether a member was kept so far.
    pub(super) has_kept: bool,
    /// The role of a member with a location: [`MemberRole::Url`], which is harmless in a citation, else
    /// [`MemberRole::Source`], which is harmless outside media.
    pub(super) location: Option<MemberRole>,
    /// Of an object: the quoted name of the member being read.
    pub(super) key: Range<usize>,
    /// Whether a member that is no text has a location. It is harmless outside media and files.
    pub(super) has_location: bool,
    pub(super) item: ItemFacts,
}

impl Container {
    /// Records that the member being read has a location.
    pub(super) fn add_location(&mut self, text: &[u8]) {
        self.has_location |= !self.is_request
            && self.tool_depth == 0
            && (self.key.is_empty() || !MemberName::of(&text[self.key.clone()]).is_text());
    }

    /// Whether the container is an image, audio, a video or a file by its type or by its name.
    pub(super) fn holds_media(&self) -> bool {
        self.is_media || self.object_type.is_some_and(ObjectType::is_media)
    }

    /// Whether a server would fetch a URL, or open a path, that the container has.
    pub(super) fn fetches_location(&self) -> bool {
        let fetches_member = match self.location {
            // A citation that stands for media is fetched like media.
            Some(MemberRole::Url) => {
                self.object_type != Some(ObjectType::Citation) || self.parent_role != MemberRole::Plain
            }
            Some(_) => self.holds_media(),
            None => false,
        };
        let is_file = self.holds_media() || self.object_type.is_some_and(ObjectType::is_file);
        fetches_member || is_file && self.has_location
    }

    /// Whether a location in the container is also one of the container around it.
    pub(super) fn exports_location(&self) -> bool {
        self.has_location && !self.object_type.is_some_and(ObjectType::is_text)
    }

    /// Whether the container names media that the server has cached.
    pub(super) fn is_cached_media(&self) -> bool {
        self.item.is_cached_media(self.holds_media() || self.parent_role == MemberRole::FetchUrl)
    }
}
