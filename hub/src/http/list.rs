//! Lists in answers: their query parameters, and long ones that are looked up and written a page at a time.
//!
//! The registry is locked for one page only, and the next page is looked up when the caller has read the one before. A page
//! ends by its bytes, too, and a list of several pages counts what it holds, so that readers who do not read cost little.

use std::io;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::task::yield_now;
use wire::row::Timestamp;

use super::tokens::duration;
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::{Hub, HubData};
use crate::model::Caller;
use crate::quota::{BytesPermit, QuotaPermit};
use crate::telemetry::Limit;

/// Most rows in a page: a third of a millisecond's work.
pub(super) const PAGE: usize = 128;
/// Bytes of text at which a page ends. A row has at most 50 KiB: two texts of 4 KiB, of which JSON makes 6 times that.
const PAGE_BYTES: usize = 32 << 10;
/// Bytes that a list counts that is not read: a page, and the server's copy of it.
const LIST_BYTES: usize = 160 << 10;
/// Most lists of more than one page that a user may read at once.
const MAX_LISTS: usize = 32;

/// Whether the query parameter `scope` asks for calls of all users to LLMs of the caller.
pub(super) fn is_owned(scope: Option<&str>) -> Result<bool, ApiError> {
    match scope {
        None => Ok(false),
        Some("owned") => Ok(true),
        Some(_) => Err(ApiError::bad_request("scope: 'owned', or left out")),
    }
}

/// A page of a list: its rows as JSON, with commas between them and the rows before.
pub(super) struct Page {
    text: Vec<u8>,
    rows: usize,
    /// Whether a row was written before this page or in it.
    has_rows: bool,
}

impl Page {
    /// Appends a row. Returns whether the page has space for another.
    pub(super) fn push(&mut self, row: &impl Serialize) -> bool {
        if std::mem::replace(&mut self.has_rows, true) {
            self.text.push(b',');
        }
        // Rows are plain values and a vector takes any bytes, so this does not fail.
        let _ = serde_json::to_writer(&mut self.text, row);
        self.rows += 1;
        self.rows < PAGE && self.text.len() < PAGE_BYTES
    }
}

/// A list that a user reads: a permit of the user, and the bytes that it holds.
pub(super) struct ListPermit {
    _list: QuotaPermit,
    bytes: BytesPermit,
}

impl ListPermit {
    /// A permit for a list of `caller` that keeps `state` bytes between two pages.
    pub(super) fn take(hub: &Hub, caller: &Caller, state: usize) -> Result<Self, ApiError> {
        let list = hub.quotas.lists.take(&caller.user, MAX_LISTS, "lists under way", Limit::Lists)?;
        let bytes = hub.unread_of(&caller.user).take(LIST_BYTES + state)?;
        Ok(Self { _list: list, bytes })
    }

    /// Counts a page of `size` bytes, twice as in [`LIST_BYTES`]. `false` if there is no memory for one that is this large.
    fn holds(&mut self, size: usize) -> bool {
        let more = (2 * size).saturating_sub(self.bytes.size());
        more == 0 || self.bytes.regrow(more)
    }
}

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

/// Parses the query parameter of a time: RFC 3339, or a time before now.
pub(super) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    // A '+' in a query was decoded as a space.
    let text = text.trim().replace(' ', "+");
    let before = duration(&text).and_then(|before| i64::try_from(before.as_millis()).ok());
    let before = before.map(|millis| now.plus_millis(millis.saturating_neg()));
    before.or_else(|| Some(Timestamp(text.parse::<jiff::Timestamp>().ok()?.as_millisecond())))
}

/// Answers with rows that have names, between `open` and `close`.
///
/// `rows` gets the name of the last row before its page. It calls a function with each row, until that returns `false`.
/// It returns whether all rows were taken.
pub(super) fn pages_by_name<T: Serialize + 'static>(
    hub: &HubData,
    caller: &Caller,
    (open, close): (&str, &str),
    name: fn(&T) -> &str,
    mut rows: impl FnMut(&Hub, &Caller, Option<&str>, &mut dyn FnMut(T) -> bool) -> bool + 'static,
) -> Result<HttpResponse, ApiError> {
    let mut after: Option<String> = None;
    pages(hub, caller, (open, close), move |hub, caller, page| {
        let mut last = None;
        let is_all = rows(hub, caller, after.as_deref(), &mut |row| {
            last = Some(name(&row).to_owned());
            page.push(&row)
        });
        after = last.or(after.take());
        !is_all
    })
}

/// Answers with the rows that `page` writes, between `open` and `close`. `page` returns whether more rows may follow.
///
/// A list of one page has a length. A longer one is streamed, and ends in an error if the caller's token is revoked.
pub(super) fn pages(
    hub: &HubData,
    caller: &Caller,
    frame: (&str, &str),
    page: impl FnMut(&Hub, &Caller, &mut Page) -> bool + 'static,
) -> Result<HttpResponse, ApiError> {
    pages_under(hub, caller, frame, None, page)
}

/// As [`pages`], under a permit that was taken before.
pub(super) fn pages_under(
    hub: &HubData,
    caller: &Caller,
    (open, close): (&str, &str),
    permit: Option<ListPermit>,
    page: impl FnMut(&Hub, &Caller, &mut Page) -> bool + 'static,
) -> Result<HttpResponse, ApiError> {
    let mut pages = Pages {
        hub: hub.clone(),
        caller: caller.clone(),
        page: Box::new(page),
        close: close.to_owned(),
        has_rows: false,
        more: true,
    };
    let first = pages.next(open.to_owned().into_bytes());
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    if !pages.more {
        return Ok(response.body(first));
    }
    let mut permit = match permit {
        Some(permit) => permit,
        None => ListPermit::take(hub, caller, 0)?,
    };
    if !permit.holds(first.len()) {
        return Err(ApiError::new(ErrorKind::HubBusy, NO_MEMORY));
    }
    Ok(response.streaming(stream::unfold((Some(first), pages, permit), next)))
}

/// Text for a list whose page the hub cannot hold.
const NO_MEMORY: &str = "the hub has no memory for the list now: try again later";

type Listing = (Option<Vec<u8>>, Pages, ListPermit);

/// The next page. An error breaks the answer off.
async fn next((first, mut pages, mut permit): Listing) -> Option<(Result<Bytes, io::Error>, Listing)> {
    if let Some(first) = first {
        return Some((Ok(first.into()), (None, pages, permit)));
    }
    if !pages.more {
        return None;
    }
    // Other connections get the thread between two pages.
    yield_now().await;
    let result = if pages.hub.tokens.is_valid(&pages.caller.token_id, clock::now()) {
        let text = pages.next(Vec::new());
        if permit.holds(text.len()) { Ok(text.into()) } else { Err(io::Error::other(NO_MEMORY)) }
    } else {
        Err(io::Error::other("the token of the list's reader is not valid any more"))
    };
    pages.more &= result.is_ok();
    Some((result, (None, pages, permit)))
}

/// Writes the next page. Returns whether more rows may follow.
type WritePage = Box<dyn FnMut(&Hub, &Caller, &mut Page) -> bool>;

struct Pages {
    hub: HubData,
    caller: Caller,
    page: WritePage,
    close: String,
    /// Whether a row was written.
    has_rows: bool,
    more: bool,
}

impl Pages {
    /// Appends the next page to `text`.
    fn next(&mut self, text: Vec<u8>) -> Vec<u8> {
        let mut page = Page { text, rows: 0, has_rows: self.has_rows };
        self.more = (self.page)(&self.hub, &self.caller, &mut page);
        self.has_rows = page.has_rows;
        if !self.more {
            page.text.extend_from_slice(self.close.as_bytes());
        }
        page.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_duration_before_now_or_an_rfc_3339_time() {
        let now = Timestamp(100 * 86_400_000);
        assert_eq!(moment("3d", now), Some(Timestamp(97 * 86_400_000)));
        assert_eq!(moment("90m", now), Some(now.plus_millis(-5_400_000)));
        assert_eq!(moment("1970-01-02T00:00:00Z", now), Some(Timestamp(86_400_000)));
        assert_eq!(moment("1970-01-02T02:00:00+02:00", now), Some(Timestamp(86_400_000)));
        assert_eq!(moment("1970-01-02T02:00:00 02:00", now), Some(Timestamp(86_400_000)), "a bare '+'");
        for odd in ["", "soon", "7", "7w", "1970-01-02", "-1d"] {
            assert_eq!(moment(odd, now), None, "{odd}");
        }
    }
}
