//! A command's end of the socket.

use std::io;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

use super::{Reply, Request, is_heard, is_ours};
use crate::{config::Places, exit::Failure};

/// Longest reply: the status of some thousand providers.
const LONGEST_REPLY: u64 = 16 << 20;

/// Whether a registrar of this home answers.
pub(crate) fn is_answered(places: &Places) -> bool {
    places.socket.as_ref().is_some_and(|path| is_heard(path))
}

/// Asks the registrar of this home, and waits for its answer.
pub(crate) async fn ask(places: &Places, request: &Request) -> Result<Value, Failure> {
    let Some(path) = &places.socket else {
        return Err(Failure::failed(format!(
            "the path of {} is too long for a socket: set XDG_RUNTIME_DIR, here and where `publish` runs",
            places.home.display()
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
    if !is_ours(&stream) {
        return Err(Failure::failed(format!("{shown} is another user's: nothing was asked there")));
    }
    let cut = |_| Failure::failed(format!("the registrar at {shown} hung up; its log says why"));
    let (input, mut output) = stream.into_split();
    let mut text = serde_json::to_string(request).map_err(anyhow::Error::from)?;
    text.push('\n');
    output.write_all(text.as_bytes()).await.map_err(cut)?;
    let mut line = String::new();
    BufReader::new(input.take(LONGEST_REPLY)).read_line(&mut line).await.map_err(cut)?;
    match serde_json::from_str(&line) {
        Ok(Reply::Ok(value)) => Ok(value),
        Ok(Reply::Error(why)) => Err(Failure::failed(why)),
        Err(_) => Err(cut(io::Error::from(io::ErrorKind::UnexpectedEof))),
    }
}
