//! The client of the control socket.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{Reply, Request, is_open, is_own_peer};
use crate::{config::Paths, exit::Failure};

/// Longest reply, in bytes: the status of some thousand providers.
const MAX_REPLY: u64 = 16 << 20;

/// Whether a registrar with these paths is running.
pub(crate) fn has_registrar(paths: &Paths) -> bool {
    paths.socket.as_ref().is_some_and(|path| is_open(path))
}

/// Sends a request to the registrar with these paths and waits for the reply.
pub(crate) async fn ask(paths: &Paths, request: &Request) -> Result<Value, Failure> {
    let Some(path) = &paths.socket else {
        return Err(Failure::failed(format!(
            "the path of {} is too long for a socket: set XDG_RUNTIME_DIR, here and where `publish` runs",
            paths.home.display()
        )));
    };
    let shown = path.display();
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(Failure::failed(format!(
                "no registrar is running here (nobody answers at {shown}); `virtual-llm publish` starts one"
            )));
        }
        Err(error) => {
            return Err(Failure::failed(format!(
                "cannot reach the registrar at {shown}: {}",
                crate::config::plain(&error)
            )));
        }
    };
    if !is_own_peer(&stream) {
        return Err(Failure::failed(format!("{shown} is another user's: nothing was asked there")));
    }
    let cut = |_| Failure::failed(format!("the registrar at {shown} hung up; its log says why"));
    let (input, mut output) = stream.into_split();
    let mut text = serde_json::to_string(request).map_err(anyhow::Error::from)?;
    text.push('\n');
    output.write_all(text.as_bytes()).await.map_err(cut)?;
    let mut line = String::new();
    BufReader::new(input.take(MAX_REPLY)).read_line(&mut line).await.map_err(cut)?;
    match serde_json::from_str(&line) {
        Ok(Reply::Ok(value)) => Ok(value),
        Ok(Reply::Error(why)) => Err(Failure::failed(why)),
        Err(_) => Err(cut(io::Error::from(io::ErrorKind::UnexpectedEof))),
    }
}
