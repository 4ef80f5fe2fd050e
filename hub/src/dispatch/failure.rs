//! What failures mean to a caller. The only reader of the fixed texts of SPEC.md section 3.5, so that the failures of
//! classic registrars have codes too.

use wire::json::Object;
use wire::openai::error_message;
use wire::row::Timestamp;
use wire::texts::{self, FixedText};

use crate::error::{ApiError, ErrorKind, LONGEST_RETRY_AFTER, is_about_a_key};
use crate::registry::UnavailableReason;

/// Longest error body that is searched for its message, in bytes.
pub(super) const LONGEST_ERROR: usize = 256 << 10;
/// Longest text of a failure, in bytes. Thousands may wait to be read, and no quota counts them.
const LONGEST_TEXT: usize = 4 << 10;

/// The caller's error for a task that failed with the publisher's `message`.
pub(super) fn failure(message: impl Into<String>) -> ApiError {
    let mut message = message.into();
    if message.len() > LONGEST_TEXT {
        message = format!("{}…", &message[..message.floor_char_boundary(LONGEST_TEXT)]);
    }
    let kind = match FixedText::parse(&message) {
        Some(FixedText::ShuttingDown) => ErrorKind::PublisherStopping,
        Some(FixedText::BackendNotAvailable) => ErrorKind::BackendUnavailable,
        Some(FixedText::BackendRefusedKey) => ErrorKind::BackendKey,
        Some(FixedText::NotRegistered) => ErrorKind::NotPublished,
        Some(FixedText::WakeFailed) => ErrorKind::WakeFailed,
        Some(FixedText::BackendAnswered(status)) if is_about_a_key(status) => ErrorKind::PublisherRefused,
        Some(FixedText::BackendAnswered(status)) => return ApiError::backend(status, message),
        Some(FixedText::AlreadyAnswered) | None => ErrorKind::BadGateway,
    };
    ApiError::new(kind, message)
}

/// The error in a body of status 400 and more: the publisher's own refusal (full or paused), else the backend's.
pub(crate) fn refusal(status: u16, body: &str) -> ApiError {
    if body.len() > LONGEST_ERROR {
        return ApiError::backend(status, "the backend failed, and gave its reason at too great a length");
    }
    let message = error_message(body).unwrap_or_else(|| "the backend failed".to_owned());
    let code = || Object::parse(Object::parse(body).ok()?.get("error")?).ok()?.get_string("code");
    let own = [ErrorKind::QueueFull, ErrorKind::Paused].into_iter().find(|kind| kind.status() == status);
    match own.filter(|kind| code().is_some_and(|code| code == kind.code())) {
        Some(kind) => ApiError::new(kind, message),
        None => ApiError::backend(status, message),
    }
}

/// The error for a call of `name` when all its visible publishers are absent at `now`.
pub(super) fn absent(name: &str, absence: UnavailableReason, now: Timestamp) -> ApiError {
    let (kind, text) = match absence {
        UnavailableReason::PublisherAway => {
            (ErrorKind::PublisherAway, format!("'{name}' has no publisher now, try again later"))
        }
        UnavailableReason::PublisherStopping => {
            (ErrorKind::PublisherStopping, format!("the publisher of '{name}' is stopping, try again later"))
        }
        UnavailableReason::BackendDown => {
            let text = format!("the backend of '{name}' is not available now, try again later");
            (ErrorKind::BackendUnavailable, text)
        }
        UnavailableReason::Paused(until) => {
            let seconds = until
                .map(|until| until.millis_since(now).div_ceil(1000).clamp(1, LONGEST_RETRY_AFTER.into()));
            let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
            return ApiError::new(ErrorKind::Paused, texts::paused(name, until)).retry_after(seconds);
        }
    };
    ApiError::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fixed_text_has_its_code() {
        for (text, status, code) in [
            (texts::SHUTTING_DOWN.to_owned(), 503, "publisher_stopping"),
            (texts::BACKEND_NOT_AVAILABLE.to_owned(), 503, "backend_unavailable"),
            (texts::BACKEND_REFUSED_KEY.to_owned(), 502, "backend_key_refused"),
            (texts::not_registered_locally("a"), 502, "not_published"),
            (texts::wake_recipe_failed("wake command timed out"), 503, "wake_failed"),
            (texts::did_not_come_up("a", 5), 503, "wake_failed"),
            (texts::backend_answered(418, "a teapot"), 418, "backend_error"),
            (texts::backend_answered(407, "a proxy"), 502, "publisher_refused"),
            (texts::ALREADY_ANSWERED.to_owned(), 502, "upstream_error"),
            ("out of memory".to_owned(), 502, "upstream_error"),
        ] {
            let error = failure(text.clone());
            assert_eq!((error.status().as_u16(), error.kind.code()), (status, code), "{text}");
            assert_eq!(error.message, text);
        }
    }

    /// P7: the text of a publisher's failure is cut to a maximum length.
    #[test]
    fn a_long_error_text_is_cut() {
        for text in ["é".repeat(40 << 10), texts::backend_answered(418, &"x".repeat(1 << 20))] {
            let error = failure(text.clone());
            assert!((4090..4110).contains(&error.message.len()), "{}", error.message.len());
            assert!(text.starts_with(error.message.strip_suffix('…').unwrap()));
            assert!(error.message.into_owned().capacity() <= 8192);
        }
    }

    #[test]
    fn a_pause_is_reported_with_its_end() {
        let (now, until) = (Timestamp(0), Timestamp(90_500));
        let error = absent("a", UnavailableReason::Paused(Some(until)), now);
        assert_eq!(error.retry_after, Some(91));
        assert!(error.message.contains("until 1970-01-01T00:01:30.500Z"), "{error}");
        assert_eq!(
            absent("a", UnavailableReason::Paused(Some(now)), until).retry_after,
            Some(1),
            "a pause that has ended"
        );
        assert_eq!(absent("a", UnavailableReason::Paused(None), now).retry_after, None);
    }

    #[test]
    fn only_an_error_caused_by_the_request_does_not_fail_over() {
        let answered = |status| failure(texts::backend_answered(status, "no"));
        assert!(!answered(400).may_fail_over() && !answered(422).may_fail_over());
        assert!(!ApiError::bad_request("no").may_fail_over());
        assert!(answered(429).may_fail_over() && answered(500).may_fail_over());
        assert!(failure(texts::BACKEND_NOT_AVAILABLE).may_fail_over());
    }
}
