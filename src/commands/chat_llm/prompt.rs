//! Where the person's words come from: a terminal with history and many lines, or a pipe.

use std::{
    io::{self, BufRead as _, IsTerminal as _},
    path::{Path, PathBuf},
};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use rustyline::{
    Completer, Config, Editor, Helper, Highlighter, Hinter, Result,
    error::ReadlineError,
    history::FileHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use tokio::sync::mpsc;

/// As many as a shell keeps.
const HISTORY: usize = 1_000;
/// Opens and closes text of several lines.
const FENCE: &str = "\"\"\"";

/// What came from the person.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Something to say.
    Said(String),
    /// Ctrl-C at the prompt: that line is given up.
    Abandoned,
    /// Ctrl-D, or the pipe's end.
    Ended,
}

/// Reads on a thread of its own, a line each time it is asked: the loop must hear signals meanwhile.
pub(super) struct Prompt {
    ask: mpsc::UnboundedSender<()>,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// How the terminal was: a signal may end the program in the middle of a line.
    before: Option<Termios>,
}

impl Prompt {
    /// Whether a person types.
    pub(super) fn is_terminal() -> bool {
        io::stdin().is_terminal()
    }

    /// Starts the thread. `history` is read, and written after each line; without one, lines are known while it runs.
    pub(super) fn start(history: Option<PathBuf>) -> Self {
        let (ask, mut asked) = mpsc::unbounded_channel();
        let (sender, inputs) = mpsc::unbounded_channel();
        let before = Self::is_terminal().then(|| tcgetattr(io::stdin()).ok()).flatten();
        std::thread::spawn(move || {
            let mut editor = Self::is_terminal().then(|| editor(history.as_deref())).flatten();
            while asked.blocking_recv().is_some() {
                let input = match &mut editor {
                    Some(editor) => typed(editor, history.as_deref()),
                    None => piped(),
                };
                if sender.send(input).is_err() {
                    return;
                }
            }
        });
        Self { ask, inputs, before }
    }

    /// The next input.
    pub(super) async fn next(&mut self) -> Input {
        // A thread that has gone sends nothing more.
        let _ = self.ask.send(());
        self.inputs.recv().await.unwrap_or(Input::Ended)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that has gone needs no restoring.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

#[derive(Completer, Helper, Highlighter, Hinter)]
struct Lines;

impl Validator for Lines {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(if is_open(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

fn editor(history: Option<&Path>) -> Option<Editor<Lines, FileHistory>> {
    let config = Config::builder().max_history_size(HISTORY).ok()?.auto_add_history(true).build();
    let mut editor = Editor::with_config(config).ok()?;
    editor.set_helper(Some(Lines));
    // The first time there is none.
    drop(history.map(|history| editor.load_history(history)));
    Some(editor)
}

fn typed(editor: &mut Editor<Lines, FileHistory>, history: Option<&Path>) -> Input {
    match editor.readline("> ") {
        Ok(text) => {
            // A history that cannot be kept is no reason to stop talking.
            drop(history.map(|history| editor.save_history(history)));
            Input::Said(closed(&text))
        }
        Err(ReadlineError::Interrupted) => Input::Abandoned,
        Err(_) => Input::Ended,
    }
}

fn piped() -> Input {
    let mut text = String::new();
    loop {
        match io::stdin().lock().read_line(&mut text) {
            Ok(read) if read > 0 => {}
            _ if text.is_empty() => return Input::Ended,
            _ => return Input::Said(closed(&text)),
        }
        if !is_open(text.trim_end_matches(['\r', '\n'])) {
            return Input::Said(closed(&text));
        }
    }
}

/// Whether more lines belong to it: a backslash at the end, or a fence without its second one.
fn is_open(text: &str) -> bool {
    if text.trim_start().starts_with(FENCE) {
        return text.matches(FENCE).count() == 1;
    }
    text.ends_with('\\')
}

/// What was meant: without fences and without the backslashes that hid line ends.
fn closed(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix(FENCE) {
        Some(inner) => inner.strip_suffix(FENCE).unwrap_or(inner).trim_matches('\n').to_owned(),
        None => text.replace("\\\r\n", "\n").replace("\\\n", "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_or_a_backslash_holds_lines_together() {
        for (text, open) in [
            ("a", false),
            ("a\\", true),
            ("\"\"\"a", true),
            ("\"\"\"a\nb\"\"\"", false),
            ("say \"\"\"", false),
        ] {
            assert_eq!(is_open(text), open, "{text}");
        }
        assert_eq!(closed("\"\"\"\na\nb\n\"\"\"\n"), "a\nb");
        assert_eq!(closed("a\\\nb\n"), "a\nb");
    }
}
