//! `login`: a token for a hub, checked and written down.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    path::Path,
};

use actix_web::http::StatusCode;
use actors::Secret;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use own_files::OwnFile;
use tokio::sync::oneshot;

use crate::{
    cli::{Global, LoginArgs},
    client::HubClient,
    config::{self, Hub, Places},
    exit::{Failure, Outcome},
    output,
};

/// A token is some tens of bytes; a wrong path ends here.
const LONGEST_TOKEN: u64 = 8 << 10;

/// Runs it.
pub(crate) async fn run(global: &Global, args: &LoginArgs) -> Outcome {
    let places = Places::find(global)?;
    let url = config::url::http(&args.url)
        .map_err(|why| Failure::usage(format!("'{}' is no hub's address: {why}", args.url)))?;
    config::check_transport(&url, global.allow_insecure)?;
    let text = match args.token_file.as_deref() {
        Some(path) => read(path)?,
        None => ask(&url).await?,
    };
    // `token create` prints the token first, and then what to do with it.
    let first = text.trim_start().lines().next().unwrap_or_default();
    let token = config::checked_token(first)
        .ok_or_else(|| Failure::usage("that is no token: expected one word of visible ASCII characters"))?;
    check(&url, &token, global).await?;
    config::write_credentials(&places, &url, &token, global.allow_insecure)?;
    output::line(format!("Logged in to {url}; the token is in {}.", places.credentials.display()))?;
    output::note(
        "Next: `virtual-llm add` to publish what runs here, `virtual-llm get llm` to see what there is.",
    );
    Ok(())
}

/// Asks the hub for what every token may see.
async fn check(url: &str, token: &Secret, global: &Global) -> Outcome {
    let hub =
        Hub { url: url.to_owned(), token: token.clone(), file: None, allow_insecure: global.allow_insecure };
    match HubClient::new(hub, global.ca_file.as_deref())?.llms().await {
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
        io::stdin().lock().take(LONGEST_TOKEN).read_to_string(&mut text).map(|_| text)
    } else {
        OwnFile::open_given(path).and_then(OwnFile::trusted).and_then(|file| file.read_text(LONGEST_TOKEN))
    };
    read.map_err(|error| {
        Failure::usage(format!("cannot read the token from {}: {}", path.display(), config::plain(&error)))
    })
}

/// Asks the person, and does not show what is typed; in a pipe, takes the first line.
async fn ask(url: &str) -> Result<String, Failure> {
    let silence = io::stdin().is_terminal().then(|| {
        output::note_piece(format!("Token for {url}: "));
        Silence::begin()
    });
    let (sender, receiver) = oneshot::channel();
    // On a thread that nobody waits for: Ctrl-C must end the program while it reads.
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().take(LONGEST_TOKEN).read_line(&mut line);
        drop(sender.send(read.map(|_| line)));
    });
    let line = receiver
        .await
        .unwrap_or_else(|_| Ok(String::new()))
        .map_err(|error| Failure::failed(format!("cannot read the token: {}", config::plain(&error))))?;
    if silence.is_some() {
        output::note("");
    }
    if line.trim().is_empty() {
        return Err(Failure::usage(
            "no token was given: type it at the prompt, or give --token-file FILE (- for standard input)",
        ));
    }
    Ok(line)
}

/// A terminal that does not echo, until this is dropped.
struct Silence(Option<Termios>);

impl Silence {
    fn begin() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        // A terminal that refuses shows what is typed: no reason to stop.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent);
        Self(Some(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, before);
        }
    }
}
