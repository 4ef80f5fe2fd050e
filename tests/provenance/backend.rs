//! A backend on raw TCP. It writes each answer as the answer's plan says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use serde_json::json;
use testkit::connection::Connection;
use testkit::peer::Peer;
use tokio::time::sleep;

use crate::dialect::{Written, write};
use crate::plan::{Dialect, Framing, Kind, Plan};
use testkit::random::Random;

/// Plans of the answers under way, by number.
pub type Plans = Rc<RefCell<HashMap<u64, Plan>>>;

#[derive(Clone)]
pub struct Backend {
    peer: Rc<Peer>,
    pub plans: Plans,
}

impl Backend {
    pub fn start() -> Self {
        let plans = Plans::default();
        let awaited = Rc::clone(&plans);
        let peer = Peer::start(async move |connection| serve(connection, &awaited).await);
        Self { peer: Rc::new(peer), plans }
    }

    /// The URL of a server of this kind.
    pub fn url(&self, kind: Kind) -> String {
        format!("{}/{}/v1", self.peer.url(), kind.name())
    }
}

async fn serve(mut connection: Connection, plans: &Plans) -> io::Result<()> {
    loop {
        let request = connection.request().await?;
        let stays = match planned(request.path(), &request.body, plans) {
            Some((plan, dialect)) => {
                let body = request.text();
                let streaming = body.contains("\"stream\":true") || body.contains("\"stream\": true");
                answer(&mut connection, &plan, write(dialect, streaming, &plan), streaming).await?
            }
            None if request.path().ends_with("/models") => {
                let list = json!({ "object": "list", "data": [{ "id": "m", "object": "model" }] });
                connection.json(200, &list).await?;
                true
            }
            None => {
                connection.json(404, &json!({ "error": { "message": "no such path" } })).await?;
                true
            }
        };
        if !stays {
            return Ok(());
        }
    }
}

/// The plan that a request names, and the API of the request.
fn planned(path: &str, body: &[u8], plans: &Plans) -> Option<(Plan, Dialect)> {
    let kind = Kind::ALL.into_iter().find(|kind| path.starts_with(&format!("/{}/", kind.name())))?;
    let dialect =
        Dialect::ALL.into_iter().find(|dialect| path.ends_with(&format!("/v1/{}", dialect.path())))?;
    let body = std::str::from_utf8(body).ok()?;
    let number = body.split("plan-").nth(1)?.split(';').next()?.parse().ok()?;
    let plan = plans.borrow().get(&number).cloned()?;
    kind.has(dialect).then_some((plan, dialect))
}

/// Writes the answer of `plan`. Returns whether the connection stays open.
async fn answer(
    connection: &mut Connection,
    plan: &Plan,
    written: Written,
    streaming: bool,
) -> io::Result<bool> {
    let mut random = plan.random.clone();
    let kind = if streaming { "text/event-stream" } else { "application/json" };
    let mut out = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n").into_bytes();
    let end = cut_at(plan, written.body.len());
    // A connection that closes after a whole answer without `connection: close` would lose the next request sent on it.
    let stays =
        plan.framing == Framing::Closed || (plan.cut.is_none() && plan.framing != Framing::UntilClosed);
    if !stays {
        out.extend(b"connection: close\r\n");
    }
    match plan.framing {
        Framing::Length => {
            out.extend(format!("content-length: {}\r\n\r\n", written.body.len()).bytes());
            out.extend(&written.body[..end]);
        }
        Framing::UntilClosed => {
            out.extend(b"\r\n");
            out.extend(&written.body[..end]);
        }
        Framing::Chunked | Framing::Closed => {
            out.extend(b"transfer-encoding: chunked\r\n\r\n");
            put_chunks(&mut out, &written, end, &mut random);
            if plan.cut.is_none() || plan.framing == Framing::Closed {
                out.extend(b"0\r\n\r\n");
            }
        }
    }
    let most = if out.len() < 20_000 && random.percent(30) { 200 } else { 150_000 };
    // Each write may be followed by a pause; at most 1,000 writes keep an answer to a few seconds.
    let most = random.between(1, most).max(out.len() as u64 / 1000);
    // An unsolicited second answer. It follows a short answer, so that both are in the socket buffer together.
    let stray: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad";
    if stays && out.len() < 16 << 10 && random.percent(20) {
        out.extend(stray);
    }
    let last = out.len() - stray.len().min(out.len());
    let mut rest = &out[..];
    while !rest.is_empty() {
        let size = usize::try_from(random.between(1, most + 1)).unwrap().min(rest.len());
        let at = out.len() - rest.len();
        let size = if at + size >= last { rest.len() } else { size };
        connection.write(&rest[..size]).await?;
        rest = &rest[size..];
        if let Some(pause) = Plan::pause(&mut random) {
            sleep(pause).await;
        }
    }
    if !stays && plan.cut.is_some_and(|cut| cut.resets) {
        connection.reset()?;
    }
    Ok(stays)
}

/// The byte at which the body of `plan` is cut, or its length.
pub fn cut_at(plan: &Plan, length: usize) -> usize {
    plan.cut.map_or(length, |cut| {
        if plan.recorded.is_some() {
            return usize::try_from(cut.at).unwrap();
        }
        // Half of the cuts are near the end, where a part looks most like a whole answer.
        let (share, near) = (usize::try_from(cut.at / 2).unwrap(), cut.at % 2 == 1);
        if near { length - share.min(length) } else { length * share / 500 }
    })
}

/// Writes the body in HTTP chunks: one for each event, or of random sizes.
fn put_chunks(out: &mut Vec<u8>, written: &Written, end: usize, random: &mut Random) {
    let by_event = random.percent(40);
    let most = if end < 20_000 && random.percent(30) { 50 } else { 100_000 };
    let mut at = 0;
    while at < end {
        let size = usize::try_from(random.between(1, most)).unwrap();
        let next = written.ends.iter().copied().find(|end| *end > at).filter(|_| by_event);
        let to = next.unwrap_or(at + size).min(end);
        out.extend(format!("{:x}\r\n", to - at).bytes());
        out.extend(&written.body[at..to]);
        out.extend(b"\r\n");
        at = to;
    }
}
