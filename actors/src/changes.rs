//! Suppresses repeated log lines: an outage of a night is logged once.

/// The last text.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    last: Option<String>,
}

impl Changes {
    /// Keeps `text`, and returns whether it differs from the last one.
    pub(crate) fn is_news(&mut self, text: &str) -> bool {
        if self.last.as_deref() == Some(text) {
            return false;
        }
        self.last = Some(text.to_owned());
        true
    }

    /// Removes the last text, and returns whether there was one.
    pub(crate) fn clear(&mut self) -> bool {
        self.last.take().is_some()
    }
}
