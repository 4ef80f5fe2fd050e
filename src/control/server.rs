//! The server of the control socket.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use actors::Registrar;
use futures_util::future::LocalBoxFuture;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{Reply, Request, is_open, is_own_peer};

/// Longest request, in bytes.
const MAX_REQUEST: u64 = 64 << 10;
/// Time-out of a request after the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay after an error of `accept`, such as no free descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reads the configuration again. Returns the changes, or the reason why nothing changed.
pub(crate) type Reload = dyn Fn() -> LocalBoxFuture<'static, Result<Value, String>>;

/// The open socket. Its file is deleted when it is dropped.
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Opens the socket at `path` with mode 0600. Fails in a folder where other users can create files.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent()
            && let Some(doubt) = own_files::make_folder(folder)?
        {
            return Err((&doubt).into());
        }
        if is_open(path) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another registrar answers there"));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let server = Self { listener, path: path.to_owned() };
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(server)
    }

    /// Answers requests until it is dropped.
    pub(crate) async fn serve(&self, registrar: &Registrar, reload: Rc<Reload>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if is_own_peer(&stream) => {
                    let (registrar, reload) = (registrar.clone(), Rc::clone(&reload));
                    // Detached: a wake recipe takes up to a minute.
                    actix_rt::spawn(async move {
                        if let Err(error) = handle(stream, &registrar, &*reload).await {
                            log::debug!("control socket: {error}");
                        }
                    });
                }
                Ok(_) => log::warn!("control socket: a stranger was turned away"),
                Err(error) => {
                    log::warn!("control socket: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

async fn handle(stream: UnixStream, registrar: &Registrar, reload: &Reload) -> io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut line = String::new();
    let mut input = BufReader::new(input.take(MAX_REQUEST));
    timeout(REQUEST_TIMEOUT, input.read_line(&mut line)).await??;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => answer(request, registrar, reload).await,
        Err(_) => {
            Reply::Error("this registrar does not know that request; is it of another version?".to_owned())
        }
    };
    let mut text = serde_json::to_string(&reply)?;
    text.push('\n');
    output.write_all(text.as_bytes()).await
}

async fn answer(request: Request, registrar: &Registrar, reload: &Reload) -> Reply {
    let stopped = || Reply::Error("the registrar has stopped".to_owned());
    match request {
        Request::Status => match registrar.status().await {
            Some(status) => {
                serde_json::to_value(status).map_or_else(|error| Reply::Error(error.to_string()), Reply::Ok)
            }
            None => stopped(),
        },
        Request::Pause { seconds } => {
            // The command has checked the number. An invalid one of another client pauses without an end.
            registrar.pause(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()));
            Reply::Ok(Value::Null)
        }
        Request::Resume => {
            registrar.resume();
            Reply::Ok(Value::Null)
        }
        Request::Reload => match reload().await {
            Ok(changes) => Reply::Ok(changes),
            Err(why) => Reply::Error(why),
        },
        Request::Up { provider } => match registrar.provider_up(&provider).await {
            Ok(took) => Reply::Ok(json!({ "seconds": took.as_secs_f64() })),
            Err(why) => Reply::Error(why),
        },
        Request::Down { provider } => match registrar.provider_down(&provider).await {
            Ok(()) => Reply::Ok(Value::Null),
            Err(why) => Reply::Error(why),
        },
    }
}
