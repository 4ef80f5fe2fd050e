//! `login`: checks a token and writes the credentials file.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    path::Path,
};

use actix_web::http::StatusCode;
use actors::{Credentials, Secret};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use own_files::OwnFile;
use tokio::sync::oneshot;

use crate::{
    cli::{Global, LoginArgs},
    client::HubClient,
    config::{self, Paths},
    exit::{Failure, Outcome},
    output,
};

/// Largest file of a token, in bytes.
const MAX_TOKEN: u64 = 8 << 10;

pub(crate) async fn run(global: &Global, args: &LoginArgs) -> Outcome {
    let paths = Paths::find(global)?;
    let url = config::url::http(&args.url)
        .map_err(|why| Failure::usage(format!("'{}' is no hub's address: {why}", args.url)))?;
    config::check_transport(&url, global.allow_insecure)?;
    let text = match args.token_file.as_deref() {
        Some(path) => read(path)?,
        None => ask(&url).await?,
    };
    // The first line of the output of `token create` is the token.
    let first = text.trim_start().lines().next().unwrap_or_default();
    let token = config::checked_token(first)
        .ok_or_else(|| Failure::usage("that is no token: expected one word of visible ASCII characters"))?;
    check(&url, &token, global, &paths).await?;
    config::write_credentials(&paths, &url, &token, global)?;
    output::line(format!("Logged in to {url}; the token is in {}.", paths.credentials.display()))?;
    output::note(
        "Next: `virtual-llm add` to publish what runs here, `virtual-llm get llm` to see what there is.",
    );
    Ok(())
}

/// Requests the list of LLMs, which every token may read.
async fn check(url: &str, token: &Secret, global: &Global, paths: &Paths) -> Outcome {
    let mut credentials = Credentials::new(url, token.clone());
    credentials.ca_file.clone_from(&global.ca_file);
    credentials.proxy = config::stored_proxy(global, paths, url)?;
    match HubClient::new(credentials)?.llms().await {
        Ok(_) => Ok(()),
        Err(error) if error.is(StatusCode::UNAUTHORIZED) => Err(Failure::failed(format!(
            "the hub at {url} does not accept this token; its admin makes one with `virtual-llm token create`"
        ))),
        Err(error) => Err(error.into()),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text).map(|_| text)
    } else {
        OwnFile::open_given(path).and_then(OwnFile::trusted).and_then(|file| file.read_text(MAX_TOKEN))
    };
    read.map_err(|error| {
        Failure::usage(format!("cannot read the token from {}: {}", path.display(), config::plain(&error)))
    })
}

/// Reads a token from the terminal without echo, or the first line of a pipe.
async fn ask(url: &str) -> Result<String, Failure> {
    let no_echo = io::stdin().is_terminal().then(|| {
        output::note_piece(format!("Token for {url}: "));
        NoEcho::start()
    });
    let (sender, receiver) = oneshot::channel();
    // A detached thread: Ctrl-C must end the program while it reads.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().take(MAX_TOKEN).read_line(&mut line);
        drop(sender.send(read.map(|_| line)));
    });
    let line = receiver
        .await
        .unwrap_or_else(|_| Ok(String::new()))
        .map_err(|error| Failure::failed(format!("cannot read the token: {}", config::plain(&error))))?;
    if no_echo.is_some() {
        output::note("");
    }
    if line.trim().is_empty() {
        return Err(Failure::usage(
            "no token was given: type it at the prompt, or give --token-file FILE (- for standard input)",
        ));
    }
    Ok(line)
}

/// Switches the echo of the terminal off until it is dropped.
struct NoEcho(Option<Termios>);

impl NoEcho {
    fn start() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // If the terminal refuses, the token is shown.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent);
        Self(Some(before))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before);
        }
    }
}
