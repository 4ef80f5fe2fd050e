//! Shows an answer as it comes: text as it is, reasoning dimmed and on a terminal only.

use super::{THINKING, WAITING};
use crate::{
    chat::{Answer, Heard},
    exit::Outcome,
    output,
    spinner::Spinner,
};

/// What was written last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Nothing,
    Thought,
    Answer,
}

/// Standard output while one answer comes.
pub(super) struct Screen {
    spinner: Spinner,
    last: Section,
    /// Whether the cursor stands behind text.
    in_line: bool,
    /// A pipe gets the answer alone.
    shows_thought: bool,
    has_colour: bool,
}

impl Screen {
    /// Waits for the first piece, visibly on a terminal.
    pub(super) fn start() -> Self {
        Self {
            spinner: Spinner::start(WAITING),
            last: Section::Nothing,
            in_line: false,
            shows_thought: output::is_terminal(),
            has_colour: output::has_colour(),
        }
    }

    /// Shows a piece.
    pub(super) fn hear(&mut self, heard: Heard<'_>) -> Outcome {
        match heard {
            Heard::Thought(text) if self.shows_thought => {
                self.turn_to(Section::Thought)?;
                let text = output::printable_answer(text);
                output::piece(if self.has_colour {
                    format!("\u{1b}[2m{text}\u{1b}[0m")
                } else {
                    text.into()
                })?;
                self.in_line = true;
                Ok(())
            }
            Heard::Thought(_) => {
                if self.last == Section::Nothing {
                    self.spinner.now(THINKING);
                }
                Ok(())
            }
            Heard::Text(text) | Heard::Refusal(text) => {
                self.turn_to(Section::Answer)?;
                output::piece(output::printable_answer(text))?;
                self.in_line = !text.ends_with('\n');
                Ok(())
            }
        }
    }

    /// Ends the line, and shows the calls of tools: the answer has ended, or was stopped.
    pub(super) fn end(&mut self, answer: Option<&Answer>) -> Outcome {
        self.spinner.clear();
        if std::mem::take(&mut self.in_line) {
            output::line("")?;
        }
        for call in answer.into_iter().flat_map(|answer| &answer.calls) {
            let (name, arguments) = (output::printable(&call.name), output::printable(&call.arguments));
            output::line(format!("{name}({arguments})"))?;
        }
        Ok(())
    }

    fn turn_to(&mut self, section: Section) -> Outcome {
        if self.last == section {
            return Ok(());
        }
        self.spinner.clear();
        match (self.last, section) {
            (Section::Nothing, Section::Thought) if !self.has_colour => output::piece("(thinking) ")?,
            (Section::Nothing, _) => {}
            (_, Section::Thought) if !self.has_colour => output::piece("\n\n(thinking) ")?,
            (Section::Thought, _) if !self.has_colour => output::piece("\n\n(answer) ")?,
            _ => output::piece("\n\n")?,
        }
        self.last = section;
        Ok(())
    }
}
