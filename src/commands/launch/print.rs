//! Shell commands that do what `launch` does.
//!
//! They contain no token: the shell reads it from where `launch` did. `export` is part of the shell, so that the token
//! is on no command line either.

use std::{ffi::OsStr, fmt::Write as _};

use actors::CredentialsFile;

use super::plan::{Arg, Plan, Setting};
use crate::output;

/// The commands, in a subshell. `file` has the token; without it, the token is in `MCPD_TOKEN`.
pub(super) fn script(program: &str, plan: &Plan, file: Option<&CredentialsFile>) -> String {
    let mut text = "(\n".to_owned();
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    if !plan.files.is_empty() {
        line("  files=$(mktemp -d) && trap 'rm -rf \"$files\"' EXIT".to_owned());
        for file in &plan.files {
            line(format!("  printf '%s\\n' {} >\"$files\"/{}", quoted(file.text.as_ref()), file.name));
        }
    }
    if !plan.unset.is_empty() {
        line(format!("  unset {}", plan.unset.join(" ")));
    }
    for (name, value) in &plan.set {
        line(match value {
            Setting::Text(value) => format!("  export {name}={}", quoted(value)),
            Setting::Token => format!("  export {name}={}", token(file)),
            Setting::File(index) => format!("  export {name}={}", path(plan, *index)),
        });
    }
    let mut words = vec![program.to_owned()];
    if plan.files.is_empty() {
        words.insert(0, "exec".to_owned());
    }
    words.extend(plan.args.iter().map(|arg| match arg {
        Arg::Text(text) => quoted(text),
        Arg::File(index) => path(plan, *index),
    }));
    line(format!("  {}", words.join(" ")));
    line(")".to_owned());
    text
}

/// A word of the shell that is the path of a temporary file.
fn path(plan: &Plan, index: usize) -> String {
    format!("\"$files\"/{}", plan.files.get(index).map(|file| file.name).unwrap_or_default())
}

/// A word of the shell that is the token.
fn token(file: Option<&CredentialsFile>) -> String {
    match file {
        None => "\"$MCPD_TOKEN\"".to_owned(),
        Some(file) => {
            // Tokens are visible ASCII. One with a quote or a backslash is escaped in JSON, which sed does not undo.
            format!(r#""$(sed -n 's/.*"token"[ :]*"\([^"]*\)".*/\1/p' {})""#, quoted(file.path.as_os_str()))
        }
    }
}

/// One word of a POSIX shell.
fn quoted(word: &OsStr) -> String {
    output::shell_word(&word.to_string_lossy())
}
