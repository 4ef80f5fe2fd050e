//! Lists in answers: their `limit`, and long ones that are looked up and written a page at a time.
//!
//! The registry is locked for one page only, and the next page is looked up when the caller has read the one before.

use std::convert::Infallible;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::task::yield_now;

use crate::error::ApiError;

/// Rows in a page: a third of a millisecond's work.
pub(super) const PAGE: usize = 128;

/// Rows of a list, and whether more may follow.
pub(super) type Page<T> = (Vec<T>, bool);

/// A 200 with a constant JSON text.
pub(super) fn ok_json(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text)
}

/// Parses the query parameter `limit`: `default` if it is missing, at most `max`.
pub(super) fn limit(text: Option<&str>, default: usize, max: usize) -> Result<usize, ApiError> {
    match text.map(str::parse::<usize>) {
        None => Ok(default),
        Some(Ok(limit @ 1..)) => Ok(limit.min(max)),
        Some(_) => Err(ApiError::bad_request(format!("limit: a number from 1 to {max}"))),
    }
}

/// Answers with the rows that `page` returns, between `open` and `close`. `page` gets the name of the last row before
/// its page, and the number of rows that it may return.
pub(super) fn pages_by_name<T: Serialize + 'static>(
    open: &str,
    close: &'static str,
    name: fn(&T) -> &str,
    mut page: impl FnMut(Option<&str>, usize) -> Vec<T> + 'static,
) -> HttpResponse {
    let mut after: Option<String> = None;
    pages(open, close, move || {
        let rows = page(after.as_deref(), PAGE);
        let more = rows.len() == PAGE;
        after = rows.last().map(|row| name(row).to_owned());
        (rows, more)
    })
}

/// Answers with the rows that `page` returns, between `open` and `close`. A list of one page has a length, a longer one
/// is streamed.
pub(super) fn pages<T: Serialize + 'static>(
    open: &str,
    close: &'static str,
    page: impl FnMut() -> Page<T> + 'static,
) -> HttpResponse {
    let mut pages = Pages { page: Box::new(page), close, begun: false, more: true };
    let mut first = open.to_owned().into_bytes();
    pages.write(&mut first);
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    if !pages.more {
        return response.body(first);
    }
    response.streaming(stream::unfold((Some(first), pages), next))
}

async fn next<T: Serialize>(
    (first, mut pages): (Option<Vec<u8>>, Pages<T>),
) -> Option<(Result<Bytes, Infallible>, (Option<Vec<u8>>, Pages<T>))> {
    if let Some(first) = first {
        return Some((Ok(first.into()), (None, pages)));
    }
    if !pages.more {
        return None;
    }
    // Other connections get the thread between two pages.
    yield_now().await;
    let mut text = Vec::new();
    pages.write(&mut text);
    Some((Ok(text.into()), (None, pages)))
}

struct Pages<T> {
    page: Box<dyn FnMut() -> Page<T>>,
    close: &'static str,
    /// Whether a row was written.
    begun: bool,
    more: bool,
}

impl<T: Serialize> Pages<T> {
    /// Appends the next page to `out`.
    fn write(&mut self, out: &mut Vec<u8>) {
        let (rows, more) = (self.page)();
        for row in &rows {
            if std::mem::replace(&mut self.begun, true) {
                out.push(b',');
            }
            // Rows are plain values and a vector takes any bytes, so this does not fail.
            let _ = serde_json::to_writer(&mut *out, row);
        }
        self.more = more;
        if !more {
            out.extend_from_slice(self.close.as_bytes());
        }
    }
}
