//! A scripted backend for tests, which serves one connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// The head of an event stream.
pub(crate) const SSE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A step of the script, after the request was read.
#[derive(Clone)]
pub(crate) enum Step {
    Say(String),
    Bytes(Vec<u8>),
    Pause(Duration),
    /// Resets the connection.
    Reset,
    /// Waits until the client closes the connection.
    UntilClosed,
    /// Waits until the server is dropped.
    UntilUnplugged,
}

pub(crate) struct Server {
    pub(crate) url: String,
    /// Head and body of each request.
    pub(crate) heads: Rc<RefCell<Vec<String>>>,
    pub(crate) closed: Rc<RefCell<bool>>,
    /// Accepts connections until dropped.
    _listener: Rc<TcpListener>,
}

pub(crate) async fn server(steps: Vec<Step>) -> Server {
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (heads, closed) = (Rc::<RefCell<Vec<String>>>::default(), Rc::<RefCell<bool>>::default());
    let (seen, gone) = (Rc::clone(&heads), Rc::clone(&closed));
    let plugged = Rc::downgrade(&listener);
    actix_rt::spawn(async move {
        let Some(listener) = plugged.upgrade() else { return };
        let (mut socket, _) = listener.accept().await.unwrap();
        drop(listener);
        let head = read_request(&mut socket).await;
        seen.borrow_mut().push(head);
        for step in steps {
            match step {
                // The client may have closed the connection.
                Step::Say(text) => drop(socket.write_all(text.as_bytes()).await),
                Step::Bytes(bytes) => drop(socket.write_all(&bytes).await),
                Step::Pause(time) => sleep(time).await,
                Step::Reset => {
                    socket.set_zero_linger().unwrap();
                    return;
                }
                Step::UntilClosed => {
                    let mut byte = [0];
                    let _ = socket.read(&mut byte).await;
                    *gone.borrow_mut() = true;
                }
                Step::UntilUnplugged => wait_until("it is unplugged", || plugged.strong_count() == 0).await,
            }
        }
    });
    Server { url, heads, closed, _listener: listener }
}

pub(crate) async fn read_request(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    loop {
        socket.read_buf(&mut text).await.unwrap();
        let head = String::from_utf8_lossy(&text).into_owned();
        let Some(end) = head.find("\r\n\r\n") else { continue };
        let length = head
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        if text.len() >= end + 4 + length {
            return head;
        }
    }
}

pub(crate) fn chunked(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Number of cases of a property: `GARBLE_CASES`, or what takes a second.
pub(crate) fn cases() -> u32 {
    std::env::var("GARBLE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

/// Waits until `is_so`, at most 10 s.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.unwrap_or_else(|_| panic!("never happened: {what}"));
}
