//! The action of a recipe: an HTTP call, a command or a Wake-on-LAN packet. Error texts quote nothing of the recipe.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use backend::http::{Client, SendError, read_body};
use bytes::Bytes;
use http::Request;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Secret;
use crate::news::hub_news;
use crate::options::Action;

/// Limit of an HTTP call (SPEC.md section 6).
const HTTP_LIMIT: Duration = Duration::from_secs(30);
/// Most bytes that are read of an answer, so that its connection can be used again.
const MAX_ANSWER: usize = 1 << 20;
/// Variables with the hub's tokens, which no command needs.
const HUB_TOKENS: [&str; 2] = ["MCPD_TOKEN", "VIRTUAL_LLM_ADMIN_TOKEN"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecipeKind {
    Wake,
    Sleep,
}

impl RecipeKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Wake => "wake",
            Self::Sleep => "sleep",
        }
    }
}

/// Runs the action of a recipe of `kind`. `limit` applies to a command.
pub(super) async fn run(
    kind: RecipeKind,
    action: &Action,
    limit: Duration,
    http: &Client,
) -> Result<(), String> {
    let failure = match action {
        Action::Http { url, method, headers, body } => {
            match timeout(HTTP_LIMIT, call(http, url, method, headers, body.as_ref())).await {
                Ok(Ok(status)) if (200..300).contains(&status) => return Ok(()),
                Ok(Ok(status)) => format!("HTTP returned {status}"),
                Ok(Err(CallFailed::Unreachable)) => "HTTP unreachable".to_owned(),
                Ok(Err(CallFailed::TimedOut)) | Err(_) => "HTTP timed out".to_owned(),
            }
        }
        Action::Command { command, args, scrub_env } => {
            match execute(command, args, scrub_env, limit).await {
                Ok(()) => return Ok(()),
                Err(failure) => format!("command {failure}"),
            }
        }
        Action::WakeOnLan { mac, broadcast, port } => match send_packet(mac, broadcast, *port).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                hub_news!(warn, "packets not sent", "the Wake-on-LAN packet was not sent: {}", error.kind());
                "packet was not sent".to_owned()
            }
        },
    };
    Err(format!("{} {failure}", kind.as_str()))
}

enum CallFailed {
    Unreachable,
    TimedOut,
}

async fn call(
    http: &Client,
    url: &Secret,
    method: &str,
    headers: &[(String, Secret)],
    body: Option<&Secret>,
) -> Result<u16, CallFailed> {
    let mut request = Request::builder().method(method).uri(url.reveal());
    for (name, value) in headers {
        request = request.header(name.as_str(), value.reveal());
    }
    let body = body.map(|body| Bytes::copy_from_slice(body.reveal().as_bytes())).unwrap_or_default();
    let request = request.body(body).map_err(|_| CallFailed::Unreachable)?;
    let response = http.send(request, HTTP_LIMIT).await.map_err(|error| match error {
        SendError::Silent => CallFailed::TimedOut,
        _ => CallFailed::Unreachable,
    })?;
    let status = response.status().as_u16();
    // Only the status counts, even if the body breaks off.
    let _ = read_body(response.into_body(), MAX_ANSWER, HTTP_LIMIT).await;
    Ok(status)
}

/// Kills the process group of a command on drop, unless the command has succeeded.
struct ProcessGroup(Option<Pid>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            // Fails only when the group has ended.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

async fn execute(command: &str, args: &[String], scrub: &[String], limit: Duration) -> Result<(), String> {
    let mut child = Command::new(command);
    child.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    for variable in scrub.iter().map(String::as_str).chain(HUB_TOKENS) {
        child.env_remove(variable);
    }
    let mut child = child.spawn().map_err(|error| {
        if error.kind() != ErrorKind::NotFound {
            hub_news!(
                warn,
                "commands not started",
                "the command of a recipe was not started: {}",
                error.kind()
            );
        }
        "not found".to_owned()
    })?;
    let mut group = ProcessGroup(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
    let Ok(status) = timeout(limit, child.wait()).await else { return Err("timed out".to_owned()) };
    let status = status.map_err(|_| "not found".to_owned())?;
    match (status.code(), status.signal()) {
        (Some(0), _) => {
            // The server that the command started may run in this group.
            group.0 = None;
            Ok(())
        }
        (Some(code), _) => Err(format!("exited with code {code}")),
        (None, signal) => Err(format!("killed by signal {}", signal.unwrap_or_default())),
    }
}

/// Sends a magic packet: six bytes 0xFF, then the address sixteen times (AMD white paper 20213).
async fn send_packet(mac: &[u8; 6], broadcast: &str, port: u16) -> std::io::Result<()> {
    let mut packet = vec![0xFF; 6];
    for _ in 0..16 {
        packet.extend_from_slice(mac);
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.set_broadcast(true)?;
    socket.send_to(&packet, (broadcast, port)).await?;
    Ok(())
}
