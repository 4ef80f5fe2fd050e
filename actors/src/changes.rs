//! Suppresses repeated log lines, so that an outage of a whole night is logged once.

/// The last logged text.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    last: Option<String>,
}

impl Changes {
    /// Stores `text`, and returns whether it differs from the last text.
    pub(crate) fn is_change(&mut self, text: &str) -> bool {
        if self.last.as_deref() == Some(text) {
            return false;
        }
        self.last = Some(text.to_owned());
        true
    }

    /// Removes the stored text, and returns whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}
