//! Runs the coding agent.
//!
//! Without temporary files the agent replaces this process, so that signals and its exit status are its own. With them
//! this process waits, passes signals on, and removes the files at the end.

use std::{
    ffi::OsString,
    fs::Permissions,
    io::{self, Write as _},
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use actors::Secret;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{AccessFlags, Pid, access, getpgrp, tcgetpgrp},
};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::plan::{Arg, Plan, Setting};
use crate::{
    cli::CodingAgent,
    exit::{Failure, Outcome},
};

/// Finds the agent's program on `PATH`.
pub(super) fn find(agent: CodingAgent) -> Result<PathBuf, Failure> {
    let program = agent.program();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(is_program).ok_or_else(|| {
        Failure::failed(format!(
            "there is no program '{program}' on PATH: install {} with `{}`",
            agent.title(),
            agent.installation()
        ))
    })
}

/// Runs the agent to its end. The exit code is the agent's.
pub(super) async fn run(program: &Path, plan: &Plan, token: &Secret) -> Outcome {
    let cannot = |error: io::Error| Failure::failed(format!("cannot start {}: {error}", program.display()));
    if plan.files.is_empty() {
        let paths = Vec::new();
        // Returns only if it fails.
        return Err(cannot(command(program, plan, token, &paths).exec()));
    }
    let (folder, paths) = write(plan).map_err(|error| {
        Failure::failed(format!(
            "cannot write a temporary file in {}: {error}",
            std::env::temp_dir().display()
        ))
    })?;
    let status = wait(command(program, plan, token, &paths)).await;
    // An error leaves a file without secrets behind.
    drop(folder.close());
    let status = status.map_err(cannot)?;
    // As shells do for a child that a signal ended.
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(1);
    if code == 0 { Ok(()) } else { Err(Failure::of_child(u8::try_from(code).unwrap_or(1))) }
}

fn command(program: &Path, plan: &Plan, token: &Secret, files: &[PathBuf]) -> Command {
    let mut command = Command::new(program);
    let path = |index: usize| files.get(index).map(OsString::from).unwrap_or_default();
    for name in &plan.unset {
        command.env_remove(name);
    }
    for (name, value) in &plan.set {
        match value {
            Setting::Text(value) => command.env(name, value),
            Setting::Token => command.env(name, token.reveal()),
            Setting::File(index) => command.env(name, path(*index)),
        };
    }
    command.args(plan.args.iter().map(|arg| match arg {
        Arg::Text(text) => text.clone(),
        Arg::File(index) => path(*index),
    }));
    command
}

/// Writes the temporary files into a folder of their own (0700), each with mode 0600.
fn write(plan: &Plan) -> io::Result<(TempDir, Vec<PathBuf>)> {
    let permissions = Permissions::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("virtual-llm-").permissions(permissions).tempdir()?;
    let mut paths = Vec::new();
    for file in &plan.files {
        let path = folder.path().join(file.name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&path)?.write_all(file.text.as_bytes())?;
        paths.push(path);
    }
    Ok((folder, paths))
}

/// Waits for the child, and passes signals on to it.
async fn wait(command: Command) -> io::Result<ExitStatus> {
    // Listened to before the start: a signal must not end this process and leave the files behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut child = tokio::process::Command::from(command).spawn()?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    loop {
        let (signal, is_of_keyboard) = tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => (Signal::SIGINT, true),
            _ = quit.recv() => (Signal::SIGQUIT, true),
            _ = terminate.recv() => (Signal::SIGTERM, false),
            _ = hangup.recv() => (Signal::SIGHUP, false),
        };
        // The terminal sends the keyboard's signals to the child as well.
        if let Some(pid) = pid.filter(|_| !(is_of_keyboard && is_in_foreground())) {
            // A child that has just ended is no error.
            let _ = kill(pid, signal);
        }
    }
}

/// Whether this process and its child are those that the terminal's keyboard interrupts.
fn is_in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
