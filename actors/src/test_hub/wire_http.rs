//! The part of HTTP/1.1 that the tests need.

use std::collections::HashMap;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Reply, State};

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    pub(crate) at: Instant,
    /// Whether a chunked body had its end mark.
    pub(crate) complete: bool,
}

impl Call {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }
}

pub(super) async fn serve(listener: TcpListener, state: Rc<State>) {
    while let Ok((socket, _)) = listener.accept().await {
        let state = Rc::clone(&state);
        state.connections.set(state.connections.get() + 1);
        actix_rt::spawn(async move {
            let _ = converse(socket, &state).await;
        });
    }
}

async fn converse(socket: TcpStream, state: &State) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (read, mut write) = socket.into_split();
    let mut read = BufReader::new(read);
    while let Some(call) = read_call(&mut read, state).await? {
        let reply = state.reply(&call);
        state.calls.borrow_mut().push(call);
        match reply {
            Reply::Status(status, headers, body) => {
                let lines: String =
                    headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]).collect();
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{lines}\r\n{body}");
                write.write_all(answer.as_bytes()).await?;
            }
            Reply::Channel => return channel(read, write, state).await,
            Reply::Hang => std::future::pending().await,
            Reply::Cut => return Ok(()),
        }
    }
    Ok(())
}

async fn channel(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    state: &State,
) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    write.write_all(head.as_bytes()).await?;
    let (sender, mut events) = mpsc::unbounded_channel();
    if let Some(data) = &*state.hello.borrow() {
        let _ = sender.send(format!("event: hello\ndata: {data}\n\n"));
    }
    state.channels.borrow_mut().push(sender);
    let mut byte = [0];
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(text) => write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?,
                None => return write.write_all(b"0\r\n\r\n").await,
            },
            _ = read.read(&mut byte) => return Ok(()),
        }
    }
}

async fn read_call(read: &mut BufReader<OwnedReadHalf>, state: &State) -> std::io::Result<Option<Call>> {
    let mut line = String::new();
    if read.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut parts = line.split(' ').map(str::to_owned);
    let (method, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        line.clear();
        read.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    state.heads.set(state.heads.get() + 1);
    let (body, complete) = if headers.contains_key("transfer-encoding") {
        read_chunked(read).await?
    } else {
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        read.read_exact(&mut body).await?;
        (body, true)
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Call { method, path, headers, body, at: Instant::now(), complete }))
}

async fn read_chunked(read: &mut BufReader<OwnedReadHalf>) -> std::io::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            return Ok((body, false));
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; length + 2];
        if read.read_exact(&mut chunk).await.is_err() {
            return Ok((body, false));
        }
        if length == 0 {
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk[..length]);
    }
}
