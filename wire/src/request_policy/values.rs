//! The scanner's rules for strings and other scalars.

use super::container::Container;
use super::location::{is_data_url, is_inline_data, is_location};
use super::object_type::{ObjectType, unquoted};
use super::roles::MemberRole;
use super::scanner::{PolicyScanner, STORED_FILE, STORED_ITEM, TEXT, UNKNOWN, URL};
use super::tools::{ToolRunner, leaves_choice};

impl PolicyScanner {
    pub(crate) fn string(&mut self, text: &[u8], start: usize, end: usize) {
        if self.opaque_depth == 0 {
            self.check_string(text, start, end);
            self.end_value(end);
        }
    }

    fn check_string(&mut self, text: &[u8], start: usize, end: usize) {
        use MemberRole as Role;

        let value = &text[start..end];
        let is_empty = value.len() == 2;
        if !is_empty && self.expects_object() {
            self.refuse(text, TEXT);
        }
        let Some(container) = self.stack.last_mut() else { return };
        if !is_empty {
            container.item.value(container.role);
        }
        if matches!(container.role, Role::Plain | Role::Source | Role::MediaData | Role::Attachments)
            && is_location(value)
        {
            container.add_location(text);
        }
        match container.role {
            Role::Attachments if is_location(value) => self.refuse(text, URL),
            // A `url` of the request itself is never a citation.
            Role::Url if !is_data_url(value) && !container.is_request => container.location = Some(Role::Url),
            Role::Url | Role::FetchUrl if !is_data_url(value) => self.refuse(text, URL),
            Role::Media if !is_inline_data(value) => self.refuse(text, URL),
            Role::MediaData if container.is_media && !is_inline_data(value) => self.refuse(text, URL),
            Role::Modality if !is_empty && *unquoted(value) != *b"text" => self.refuse(text, URL),
            Role::StoredFile if !is_empty => self.refuse(text, STORED_FILE),
            Role::OwnerOnly if !is_empty => self.refuse_owner_only(text),
            // A tool given by its name alone runs on the server.
            Role::Tools | Role::OwnerOnlyFlag | Role::Store => self.refuse_owner_only(text),
            // Leaving media out would change the request.
            role if container.is_unknown && !is_empty && role.is_media() => self.refuse(text, UNKNOWN),
            _ if container.is_unknown => (),
            Role::Type if container.tool_depth > 0 => {
                let runner = ToolRunner::of(&unquoted(value));
                container.tool.set_runner(runner, start + 1..end - 1);
            }
            Role::Type if is_empty => container.item.untyped(),
            Role::Type => match ObjectType::of(&unquoted(value)) {
                ObjectType::ItemReference => self.refuse(text, STORED_ITEM),
                object_type => {
                    container.object_type = Some(ObjectType::combine(container.object_type, object_type));
                }
            },
            Role::ToolChoice => self.tools.is_forced |= !leaves_choice(&unquoted(value)),
            Role::Source if !is_data_url(value) => set_source(container),
            Role::MediaData if !is_inline_data(value) => set_source(container),
            _ => (),
        }
    }

    /// Handles a number, a literal, or an empty array or object.
    pub(crate) fn scalar(&mut self, text: &[u8], start: usize, end: usize) {
        if self.opaque_depth == 0 {
            self.check_scalar(text, start, end);
            self.end_value(end);
        }
    }

    fn check_scalar(&mut self, text: &[u8], start: usize, end: usize) {
        let Some(container) = self.stack.last_mut() else { return };
        let value = &text[start..end];
        let is_null = value == b"null";
        let is_off = is_null || value == b"false";
        if !is_null {
            container.item.value(container.role);
        }
        match container.role {
            // -1 selects any slot in llama.cpp, and an empty array requests nothing.
            MemberRole::OwnerOnly if !is_off && value != b"-1" && !value.starts_with(b"[") => {
                self.refuse_owner_only(text);
            }
            MemberRole::OwnerOnlyFlag | MemberRole::Store if !is_off => self.refuse_owner_only(text),
            _ if container.is_unknown => (),
            MemberRole::Type if is_null => container.item.untyped(),
            MemberRole::Type if container.tool_depth > 0 => {
                container.tool.set_runner(ToolRunner::Server, 0..0);
            }
            MemberRole::Store if is_null && container.is_request => self.store.nulls.push(start..end),
            _ => (),
        }
    }
}

/// Records a location that is refused in media only, unless the container already has one that is refused in more places.
fn set_source(container: &mut Container) {
    container.location.get_or_insert(MemberRole::Source);
}
