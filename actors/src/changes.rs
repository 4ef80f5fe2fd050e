//! Says a thing once, until another takes its place: a hub that is away for a night fills no log.

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    last: Option<String>,
}

impl Changes {
    /// Whether `text` differs from what was said last; it is what was said last from now on.
    pub(crate) fn is_news(&mut self, text: &str) -> bool {
        if self.last.as_deref() == Some(text) {
            return false;
        }
        self.last = Some(text.to_owned());
        true
    }

    /// All is well. Whether it was not before.
    pub(crate) fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}
