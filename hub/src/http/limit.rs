//! `?limit=`: how many rows of a list an answer has.

use crate::error::ApiError;

/// What `text` says, at most `most`; `usual` where nothing is said.
pub(super) fn limit(text: Option<&str>, usual: usize, most: usize) -> Result<usize, ApiError> {
    match text.map(str::parse::<usize>) {
        None => Ok(usual),
        Some(Ok(limit @ 1..)) => Ok(limit.min(most)),
        Some(_) => Err(ApiError::bad_request(format!("limit: a number from 1 to {most}"))),
    }
}
