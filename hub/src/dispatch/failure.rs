//! What a publisher's `{"error": …}` means for its caller: the one place that reads the fixed texts of SPEC.md
//! section 3.5, so that classic registrars have codes too.

use wire::row::Timestamp;
use wire::texts::{self, FixedText};

use crate::error::{ApiError, ErrorKind, LONGEST_RETRY_AFTER, is_about_a_key};
use crate::registry::UnavailableReason;

/// Longest error whose words are looked for, as at a backend: a hub's thread serves everybody.
pub(super) const LONGEST_ERROR: usize = 256 << 10;
/// Longest text of a failure, in bytes. It waits for its reader, of whom there may be thousands, and counts for nobody.
const LONGEST_TEXT: usize = 4 << 10;

/// The error that a caller gets for a failed task whose publisher says `message`.
pub(crate) fn failure(message: impl Into<String>) -> ApiError {
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

/// The error for a call of `name`, all of whose publishers that the caller may see are absent at `now`.
pub(super) fn absent(name: &str, why: UnavailableReason, now: Timestamp) -> ApiError {
    let (kind, text) = match why {
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

    /// P7: what a publisher says of a failure is kept in short, whatever it is.
    #[test]
    fn a_long_text_is_cut() {
        for text in ["é".repeat(40 << 10), texts::backend_answered(418, &"x".repeat(1 << 20))] {
            let error = failure(text.clone());
            assert!((4090..4110).contains(&error.message.len()), "{}", error.message.len());
            assert!(text.starts_with(error.message.strip_suffix('…').unwrap()));
            assert!(error.message.into_owned().capacity() <= 8192);
        }
    }

    #[test]
    fn a_pause_is_told_with_its_end() {
        let (now, until) = (Timestamp(0), Timestamp(90_500));
        let error = absent("a", UnavailableReason::Paused(Some(until)), now);
        assert_eq!(error.retry_after, Some(91));
        assert!(error.message.contains("until 1970-01-01T00:01:30.500Z"), "{error}");
        assert_eq!(
            absent("a", UnavailableReason::Paused(Some(now)), until).retry_after,
            Some(1),
            "it is over"
        );
        assert_eq!(absent("a", UnavailableReason::Paused(None), now).retry_after, None);
    }

    #[test]
    fn only_a_fault_of_the_request_is_not_tried_elsewhere() {
        let answered = |status| failure(texts::backend_answered(status, "no"));
        assert!(!answered(400).may_fail_over() && !answered(422).may_fail_over());
        assert!(!ApiError::bad_request("no").may_fail_over());
        assert!(answered(429).may_fail_over() && answered(500).may_fail_over());
        assert!(failure(texts::BACKEND_NOT_AVAILABLE).may_fail_over());
    }
}
