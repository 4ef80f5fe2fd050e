//! Model servers that read requests without a look at them: one answers at once, so that what a call takes is the relay's, and one
//! takes the time of a model.

use std::io::{BufRead as _, BufReader, Read as _, Result, Write as _, copy, sink};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// Starts the server that answers at once, on threads of this process; its port.
pub fn start() -> u16 {
    listen(|connection, _| {
        let body = r#"{"id":"c","object":"chat.completion","data":[{"id":"m"}],"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}]}"#;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write_all([head.as_str(), body].concat().as_bytes())
    })
}

/// Starts a server that streams each answer as a model does: the first token after `prefill`, then one after each `pace`, as many
/// as `tokens` says for the number of the request. Its port.
pub fn start_paced(prefill: Duration, pace: Duration, tokens: fn(u32) -> u32) -> u16 {
    listen(move |connection, number| {
        connection.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        let mut chunk = |data: &str| {
            let event = format!("data: {data}\n\n");
            connection.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
        };
        sleep(prefill);
        for _ in 0..tokens(number) {
            chunk(
                r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi "}}]}"#,
            )?;
            sleep(pace);
        }
        chunk(
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        )?;
        chunk("[DONE]")?;
        connection.write_all(b"0\r\n\r\n")
    })
}

/// Starts a server with these answers, which get the number of the request; its port.
fn listen(answer: impl Fn(&mut TcpStream, u32) -> Result<()> + Copy + Send + 'static) -> u16 {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    spawn(move || {
        for stream in listener.incoming() {
            spawn(move || {
                serve(stream.unwrap(), |stream| answer(stream, REQUESTS.fetch_add(1, Ordering::Relaxed)));
            });
        }
    });
    port
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, answer: impl Fn(&mut TcpStream) -> Result<()>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        if copy(&mut reader.by_ref().take(length), &mut sink()).is_err() {
            return;
        }
        if answer(reader.get_mut()).is_err() {
            return;
        }
    }
}
