//! A backend at raw TCP: it writes each answer as its plan says.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::dialect::{Written, write};
use crate::http::Head;
use crate::plan::{Dialect, Framing, Kind, Plan};
use crate::random::Random;

/// Plans whose answers are awaited, by number.
pub type Plans = Rc<RefCell<HashMap<u64, Plan>>>;

#[derive(Clone)]
pub struct Backend {
    pub port: u16,
    pub plans: Plans,
}

impl Backend {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self { port: listener.local_addr().unwrap().port(), plans: Plans::default() };
        let serving = backend.clone();
        actix_rt::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let backend = serving.clone();
                // Its peer may leave at any time.
                actix_rt::spawn(async move { drop(backend.serve(socket).await) });
            }
        });
        backend
    }

    /// The URL of a server of this kind.
    pub fn url(&self, kind: Kind) -> String {
        format!("http://127.0.0.1:{}/{}/v1", self.port, kind.name())
    }

    async fn serve(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let mut from = BufReader::new(socket);
        while let Some(head) = Head::read(&mut from).await? {
            let mut body = vec![0; head.length().unwrap_or(0)];
            from.read_exact(&mut body).await?;
            let path = head.first.split(' ').nth(1).unwrap_or_default();
            let stays = match self.planned(path, &body) {
                Some((plan, dialect)) => {
                    let body = String::from_utf8_lossy(&body);
                    let streaming = body.contains("\"stream\":true") || body.contains("\"stream\": true");
                    answer(from.get_mut(), &plan, write(dialect, streaming, &plan), streaming).await?
                }
                None if path.ends_with("/models") => {
                    let list = r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#;
                    refuse(from.get_mut(), "200 OK", list).await?
                }
                None => {
                    refuse(from.get_mut(), "404 Not Found", r#"{"error":{"message":"no such path"}}"#).await?
                }
            };
            if !stays {
                break;
            }
        }
        Ok(())
    }

    /// The plan that a request asks for, and the API that it speaks.
    fn planned(&self, path: &str, body: &[u8]) -> Option<(Plan, Dialect)> {
        let kind = Kind::ALL.into_iter().find(|kind| path.starts_with(&format!("/{}/", kind.name())))?;
        let dialect =
            Dialect::ALL.into_iter().find(|dialect| path.ends_with(&format!("/v1/{}", dialect.path())))?;
        let body = std::str::from_utf8(body).ok()?;
        let number = body.split("plan-").nth(1)?.split(';').next()?.parse().ok()?;
        let plan = self.plans.borrow().get(&number).cloned()?;
        kind.has(dialect).then_some((plan, dialect))
    }
}

async fn refuse(socket: &mut TcpStream, status: &str, body: &str) -> io::Result<bool> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    socket.write_all((head + body).as_bytes()).await?;
    Ok(true)
}

/// Writes the answer of `plan`; whether the connection stays.
async fn answer(socket: &mut TcpStream, plan: &Plan, written: Written, streaming: bool) -> io::Result<bool> {
    let mut random = plan.random.clone();
    let kind = if streaming { "text/event-stream" } else { "application/json" };
    let mut out = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n").into_bytes();
    let end = cut_at(plan, written.body.len());
    // A connection that ends behind a whole answer, unannounced, would cost the next request on it its answer.
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
    // A pause may follow each: at most 2000 of them, some seconds.
    let most = random.between(1, most).max(out.len() as u64 / 1000);
    // A second answer behind the first, which is nobody's. Of a short one, so that both lie in the socket together.
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
        socket.write_all(&rest[..size]).await?;
        rest = &rest[size..];
        if let Some(pause) = Plan::pause(&mut random) {
            sleep(pause).await;
        }
    }
    if !stays && plan.cut.is_some_and(|cut| cut.resets) {
        socket.set_zero_linger()?;
    }
    Ok(stays)
}

/// Where the body of `plan` ends.
pub fn cut_at(plan: &Plan, length: usize) -> usize {
    plan.cut.map_or(length, |cut| {
        if plan.recorded.is_some() {
            return usize::try_from(cut.at).unwrap();
        }
        // Half of them near the end, where a part looks most like all of it.
        let (share, near) = (usize::try_from(cut.at / 2).unwrap(), cut.at % 2 == 1);
        if near { length - share.min(length) } else { length * share / 500 }
    })
}

/// Chunks of HTTP: one for each event, or of any size.
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
