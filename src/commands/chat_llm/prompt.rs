//! Input of a conversation: a terminal with a history, or a pipe.

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

/// Most lines of the history.
const MAX_HISTORY: usize = 1_000;
/// Opens and closes a text of several lines.
const FENCE: &str = "\"\"\"";

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Text(String),
    /// Ctrl-C at the prompt, which discards the line.
    Discarded,
    /// Ctrl-D, or the end of the pipe.
    Ended,
}

/// Reads a text per request on its own thread, so that signals are handled meanwhile.
pub(super) struct Prompt {
    ask: mpsc::UnboundedSender<()>,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// Settings of the terminal at the start: a signal may end the program while a line is edited.
    before: Option<Termios>,
}

impl Prompt {
    /// Whether standard input is a terminal.
    pub(super) fn is_terminal() -> bool {
        io::stdin().is_terminal()
    }

    /// Starts the thread. `history` is a file that is written after each line; without it lines are kept in memory.
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

    pub(super) async fn next(&mut self) -> Input {
        // Fails if the thread has ended, which `recv` reports.
        let _ = self.ask.send(());
        self.inputs.recv().await.unwrap_or(Input::Ended)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Fails if the terminal was closed.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

#[derive(Completer, Helper, Highlighter, Hinter)]
struct Multiline;

impl Validator for Multiline {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(if is_incomplete(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

fn editor(history: Option<&Path>) -> Option<Editor<Multiline, FileHistory>> {
    let config = Config::builder().max_history_size(MAX_HISTORY).ok()?.auto_add_history(true).build();
    let mut editor = Editor::with_config(config).ok()?;
    editor.set_helper(Some(Multiline));
    // Fails if there is no file yet.
    drop(history.map(|history| editor.load_history(history)));
    Some(editor)
}

fn typed(editor: &mut Editor<Multiline, FileHistory>, history: Option<&Path>) -> Input {
    match editor.readline("> ") {
        Ok(text) => {
            // An error of the history does not end the conversation.
            drop(history.map(|history| editor.save_history(history)));
            Input::Text(unfenced(&text))
        }
        Err(ReadlineError::Interrupted) => Input::Discarded,
        Err(_) => Input::Ended,
    }
}

fn piped() -> Input {
    let mut text = String::new();
    loop {
        match io::stdin().lock().read_line(&mut text) {
            Ok(read) if read > 0 => {}
            _ if text.is_empty() => return Input::Ended,
            _ => return Input::Text(unfenced(&text)),
        }
        if !is_incomplete(text.trim_end_matches(['\r', '\n'])) {
            return Input::Text(unfenced(&text));
        }
    }
}

/// Whether the text continues on the next line: it ends with a backslash, or a fence is not closed.
fn is_incomplete(text: &str) -> bool {
    if text.trim_start().starts_with(FENCE) {
        return text.matches(FENCE).count() == 1;
    }
    text.ends_with('\\')
}

/// Removes fences, and backslashes at line ends.
fn unfenced(text: &str) -> String {
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
    fn a_fence_or_a_backslash_continues_a_text() {
        for (text, open) in [
            ("a", false),
            ("a\\", true),
            ("\"\"\"a", true),
            ("\"\"\"a\nb\"\"\"", false),
            ("say \"\"\"", false),
        ] {
            assert_eq!(is_incomplete(text), open, "{text}");
        }
        assert_eq!(unfenced("\"\"\"\na\nb\n\"\"\"\n"), "a\nb");
        assert_eq!(unfenced("a\\\nb\n"), "a\nb");
    }
}
