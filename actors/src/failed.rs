//! Logs each failed task: its id, its provider, a code and its time in ms. Nothing of request or answer is logged.

use std::borrow::Cow;
use std::fmt;

use wire::result::{TaskError, TaskResult};
use wire::texts::FixedText;

use crate::news::news;
use crate::outbox::Ticket;

/// Why a task failed: an error code of the hub (SPEC.md section 5.1), or the status of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Word(&'static str),
    Status(u16),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Status(status) => write!(f, "backend_error status={status}"),
        }
    }
}

impl Code {
    /// The code of a result; `None` for a success.
    pub(crate) fn of(result: &TaskResult) -> Option<Self> {
        match result {
            TaskResult::Chunk(_) => None,
            TaskResult::Answer { status, .. } => (*status >= 400).then_some(Self::Status(*status)),
            TaskResult::Error(TaskError { message, .. }) => Some(Self::of_text(message)),
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Word(word) => word,
            Self::Status(_) => "backend_error",
        }
    }

    /// The code of an error text.
    pub(crate) fn of_text(message: &str) -> Self {
        Self::Word(match FixedText::parse(message) {
            Some(FixedText::NotRegistered) => "not_published",
            Some(FixedText::WakeFailed) => "wake_failed",
            Some(FixedText::BackendNotAvailable) => "backend_unavailable",
            Some(FixedText::BackendRefusedKey) => "backend_key_refused",
            Some(FixedText::ShuttingDown) => "publisher_stopping",
            Some(FixedText::BackendAnswered(status)) => return Self::Status(status),
            Some(FixedText::AlreadyAnswered) | None => "upstream_error",
        })
    }
}

/// Logs that the task of `ticket` failed.
pub(crate) fn note(ticket: &Ticket, provider: &str, code: Code) {
    let ms = ticket.age().as_millis();
    let word = code.word();
    // The name of a provider that is not published comes from the hub: count such lines together.
    let source = if word == "not_published" { "the hub" } else { provider };
    let (name, provider) = (provider, field(provider));
    news!(
        info,
        word,
        source,
        [provider = name, code = code, ms = ms, task = ticket.id()],
        "task {} failed: provider={provider} code={code} ms={ms}",
        ticket.id()
    );
}

/// A value in a line of fields: in quotes if it could be read as another field.
fn field(value: &str) -> Cow<'_, str> {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '=' | '"');
    if !value.is_empty() && value.chars().all(is_plain) {
        Cow::Borrowed(value)
    } else {
        Cow::Owned(format!("{value:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub can put any text into a task as the name of its provider.
    #[test]
    fn a_name_cannot_forge_another_field() {
        assert_eq!(field("qwen2.5-7b"), "qwen2.5-7b");
        assert_eq!(field("no code=ok ms=0"), r#""no code=ok ms=0""#);
        assert_eq!(field("a\"b\nc"), r#""a\"b\nc""#);
        assert_eq!(field(""), "\"\"");
    }

    #[test]
    fn a_code_quotes_nothing_of_the_backend() {
        let code = |result: &TaskResult| Code::of(result).map(|code| code.to_string());
        let said = |text: &str| code(&TaskResult::error(text)).unwrap();
        assert_eq!(said("the secret prompt was too long"), "upstream_error");
        assert_eq!(said("backend answered 503: the secret model is loading"), "backend_error status=503");
        assert_eq!(said("wake recipe failed: wake command exited with code 3"), "wake_failed");
        let refused = TaskResult::answer(422, r#"{"error":"secret"}"#).unwrap();
        assert_eq!(code(&refused).as_deref(), Some("backend_error status=422"));
        assert_eq!(code(&TaskResult::answer(200, "{}").unwrap()), None);
        assert_eq!(code(&TaskResult::done(None)), None);
    }
}
