//! What the members of an object say of what its server keeps.

use super::words::{Kind, Name, Said, Word};

/// An object, as far as it may stand for what a server keeps.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// By the member that is being read, unless it is null.
    saying: Option<Said>,
    said: [bool; Said::COUNT],
}

impl Item {
    /// A member begins, of an item of a conversation or of anything else.
    pub(super) fn key(&mut self, name: &Name, is_item: bool) {
        if name.is_of_media() {
            self.add(Said::Media);
        }
        self.saying = is_item.then(|| name.of_item());
    }

    /// There is something in the member that is being read, whose name says `word`.
    pub(super) fn value(&mut self, word: Word) {
        if let Some(said) = self.saying.take() {
            self.add(said);
        }
        if word == Word::KeptAs {
            self.add(Said::KeptAs);
        }
    }

    /// Its type is null, or empty.
    pub(super) fn untyped(&mut self) {
        self.add(Said::NoType);
    }

    fn add(&mut self, said: Said) {
        self.said[said as usize] = true;
    }

    fn has(&self, said: Said) -> bool {
        self.said[said as usize]
    }

    /// Whether it says by what name the server keeps a picture, a sound or a film, which it is itself or has in it.
    pub(super) fn is_kept_media(&self, is_media: bool) -> bool {
        self.has(Said::KeptAs) && (is_media || self.has(Said::Media))
    }

    /// Whether it stands for an item that the server keeps: the type of a reference may be left out.
    pub(super) fn is_reference(&self, kind: Option<Kind>) -> bool {
        self.has(Said::Id)
            && match kind.filter(|_| !self.has(Said::NoType)) {
                None => !self.has(Said::Content),
                Some(Kind::Made) => !self.has(Said::Result),
                Some(_) => false,
            }
    }
}
