//! A list that may be long: looked up and written a page at a time, so that nobody waits for the table meanwhile, and no
//! sooner than its reader reads.

use std::convert::Infallible;

use actix_web::HttpResponse;
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::task::yield_now;

/// Rows that are looked up and written at once: a third of a millisecond's work.
pub(super) const PAGE: usize = 128;

/// Some things of a list, and whether more may follow.
pub(super) type Page<T> = (Vec<T>, bool);

/// What `page` gives, between `open` and `close`. A list of one page has a length, a longer one is streamed.
pub(super) fn respond<T: Serialize + 'static>(
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
    // Between two pages everybody else has a turn.
    yield_now().await;
    let mut text = Vec::new();
    pages.write(&mut text);
    Some((Ok(text.into()), (None, pages)))
}

struct Pages<T> {
    page: Box<dyn FnMut() -> Page<T>>,
    close: &'static str,
    /// Whether there was a thing before.
    begun: bool,
    more: bool,
}

impl<T: Serialize> Pages<T> {
    /// Appends the next page.
    fn write(&mut self, out: &mut Vec<u8>) {
        let (things, more) = (self.page)();
        for thing in &things {
            if std::mem::replace(&mut self.begun, true) {
                out.push(b',');
            }
            // Rows are plain values, and a vector takes all.
            let _ = serde_json::to_writer(&mut *out, thing);
        }
        self.more = more;
        if !more {
            out.extend_from_slice(self.close.as_bytes());
        }
    }
}
