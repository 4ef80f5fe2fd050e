//! Facts about the members of an object, from which the scanner decides whether it refers to an item stored on the server.

use super::name::MemberName;
use super::object_type::ObjectType;
use super::roles::MemberRole;

/// A fact about an object, derived from one of its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemFact {
    /// It has an `id`.
    Id,
    /// It has a role, content, text or media, as every item of a conversation without a type has.
    Content,
    /// It has the result of a tool that ran on the server.
    Result,
    /// It has a media member, possibly null.
    Media,
    /// It has a `uuid`, under which the server caches media.
    MediaUuid,
    /// Its `type` is null or empty.
    NoType,
}

impl ItemFact {
    const COUNT: usize = Self::NoType as usize + 1;

    /// The fact that a member of a conversation item implies if its value is not null.
    fn of_member(name: &MemberName) -> Option<Self> {
        match name.letters() {
            b"id" => Some(Self::Id),
            b"role" | b"content" | b"text" => Some(Self::Content),
            _ if name.is_media() => Some(Self::Content),
            b"result" => Some(Self::Result),
            _ => None,
        }
    }
}

/// The facts known so far about an object.
#[derive(Debug, Default)]
pub(super) struct ItemFacts {
    /// Fact of the member being read, recorded if its value is not null.
    pending: Option<ItemFact>,
    facts: [bool; ItemFact::COUNT],
}

impl ItemFacts {
    /// A member begins. `is_item` tells whether the object is inside the request's `input`.
    pub(super) fn key(&mut self, name: &MemberName, is_item: bool) {
        if name.is_media() {
            self.add(ItemFact::Media);
        }
        self.pending = ItemFact::of_member(name).filter(|_| is_item);
    }

    /// The member being read, of this role, has a value that is neither null nor an empty string.
    pub(super) fn value(&mut self, role: MemberRole) {
        if let Some(fact) = self.pending.take() {
            self.add(fact);
        }
        if role == MemberRole::MediaUuid {
            self.add(ItemFact::MediaUuid);
        }
    }

    /// The object's type is null or empty.
    pub(super) fn untyped(&mut self) {
        self.add(ItemFact::NoType);
    }

    fn add(&mut self, fact: ItemFact) {
        self.facts[fact as usize] = true;
    }

    fn has(&self, fact: ItemFact) -> bool {
        self.facts[fact as usize]
    }

    /// Whether the object names media by the `uuid` under which the server caches it. `is_media` tells whether the object
    /// itself is media.
    pub(super) fn is_cached_media(&self, is_media: bool) -> bool {
        self.has(ItemFact::MediaUuid) && (is_media || self.has(ItemFact::Media))
    }

    /// Whether the object refers to a stored item by its id. The type of a reference is optional.
    pub(super) fn is_reference(&self, object_type: Option<ObjectType>) -> bool {
        self.has(ItemFact::Id)
            && match object_type.filter(|_| !self.has(ItemFact::NoType)) {
                None => !self.has(ItemFact::Content),
                Some(ObjectType::GeneratedImage) => !self.has(ItemFact::Result),
                Some(_) => false,
            }
    }
}
