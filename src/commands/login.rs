//! `login`: checks a token and writes the credentials file.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    path::Path,
};

use actix_web::http::{Method, StatusCode};
use actors::{Credentials, Secret};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use own_files::OwnFile;
use tokio::sync::oneshot;

use super::cells::text;
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
    let (address, code) = match args.url.split_once(output::SIGN_IN) {
        Some((address, code)) => (address, Some(code)),
        None => (args.url.as_str(), None),
    };
    let url = config::url::http(address)
        .map_err(|why| Failure::usage(format!("'{address}' is no hub's address: {why}")))?;
    config::check_transport(&url, global.allow_insecure)?;
    if let Some(code) = code {
        if args.token_file.is_some() {
            return Err(Failure::usage("a sign-in link has its token: leave --token-file out"));
        }
        return by_link(&url, code, global, &paths).await;
    }
    let text = match args.token_file.as_deref() {
        Some(path) => read(path)?,
        None => ask(&url).await?,
    };
    // The first line of the output of `token create` is the token.
    let first = text.trim_start().lines().next().unwrap_or_default();
    // People paste what they got.
    if let Some((address, code)) = first.split_once(output::SIGN_IN) {
        if config::url::http(address).ok().as_ref() != Some(&url) {
            return Err(Failure::usage(
                "that is the sign-in link of another hub: `virtual-llm login 'LINK'`",
            ));
        }
        return by_link(&url, code.trim(), global, &paths).await;
    }
    let token = config::checked_token(first)
        .ok_or_else(|| Failure::usage("that is no token: expected one word of visible ASCII characters"))?;
    check(&url, &token, global, &paths).await?;
    keep(&url, &token, global, &paths).await
}

/// Gives the code of a sign-in link for its token, which the hub makes then and shows this once.
async fn by_link(url: &str, code: &str, global: &Global, paths: &Paths) -> Outcome {
    let code = config::checked_token(code).ok_or_else(|| Failure::usage("the sign-in link is not whole"))?;
    let hub = client(url, &code, global, paths)?;
    let made = hub.call(Method::POST, "/api/v1/sign-in", None).await.map_err(|error| match error.reason {
        Some(reason) if error.status == Some(StatusCode::UNAUTHORIZED) => {
            Failure::failed(format!("the hub at {url}: {reason}"))
        }
        _ => error.into(),
    })?;
    let token = made["token"].as_str().and_then(config::checked_token);
    let token = token.ok_or_else(|| Failure::failed(format!("the hub at {url} made no token")))?;
    keep(url, &token, global, paths).await.inspect_err(|_| {
        // It is shown this once: it must not be lost.
        drop(output::line(token.reveal()));
    })
}

/// Writes the credentials file, and says what comes next.
async fn keep(url: &str, token: &Secret, global: &Global, paths: &Paths) -> Outcome {
    let before = paths.credentials.exists();
    config::write_credentials(paths, url, token, global)?;
    // A classic hub does not say whose token it is.
    let caller = client(url, token, global, paths)?.find("/api/v1/whoami").await.ok().flatten();
    let caller = caller.map_or_else(String::new, |caller| {
        format!(" as {} ({})", text(&caller, "user"), text(&caller, "role"))
    });
    let file = paths.credentials.display();
    let place = if before { ", in the place of the login before" } else { "" };
    output::line(format!("Logged in to {url}{caller}; the token is in {file}{place}."))?;
    output::note(
        "Next: `virtual-llm get llm` to see what there is, or `virtual-llm add` to publish what runs here.",
    );
    Ok(())
}

fn client(url: &str, token: &Secret, global: &Global, paths: &Paths) -> Result<HubClient, Failure> {
    let mut credentials = Credentials::new(url, token.clone());
    credentials.ca_file.clone_from(&global.ca_file);
    credentials.proxy = config::stored_proxy(global, paths, url)?;
    HubClient::new(credentials)
}

/// Requests the list of LLMs, which every token may read.
async fn check(url: &str, token: &Secret, global: &Global, paths: &Paths) -> Outcome {
    match client(url, token, global, paths)?.llms().await {
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
