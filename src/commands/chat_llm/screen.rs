//! Shows an answer as it arrives: text unchanged, reasoning dimmed and on a terminal only.

use super::{THINKING, WAITING};
use crate::{
    chat::{Answer, Delta},
    exit::Outcome,
    output,
    spinner::Spinner,
};

/// The kind of the text that was printed last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Nothing,
    Reasoning,
    Answer,
}

/// Standard output during one answer.
pub(super) struct Screen {
    spinner: Spinner,
    last: Section,
    /// Whether the line has text.
    in_line: bool,
    /// Whether standard output is a terminal. A pipe gets the answer only.
    shows_reasoning: bool,
    has_colour: bool,
}

impl Screen {
    /// Starts the spinner.
    pub(super) fn start() -> Self {
        Self {
            spinner: Spinner::start(WAITING),
            last: Section::Nothing,
            in_line: false,
            shows_reasoning: output::is_terminal(),
            has_colour: output::has_colour(),
        }
    }

    pub(super) fn show(&mut self, delta: Delta<'_>) -> Outcome {
        match delta {
            Delta::Reasoning(text) if self.shows_reasoning => {
                self.begin(Section::Reasoning)?;
                let text = output::printable_answer(text);
                output::piece(if self.has_colour {
                    format!("\u{1b}[2m{text}\u{1b}[0m")
                } else {
                    text.into()
                })?;
                self.in_line = true;
                Ok(())
            }
            Delta::Reasoning(_) => {
                if self.last == Section::Nothing {
                    self.spinner.set_text(THINKING);
                }
                Ok(())
            }
            Delta::Text(text) | Delta::Refusal(text) => {
                self.begin(Section::Answer)?;
                output::piece(output::printable_answer(text))?;
                self.in_line = !text.ends_with('\n');
                Ok(())
            }
        }
    }

    /// Ends the line and prints the tool calls of the answer.
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

    /// Begins a section, separated from the one before.
    fn begin(&mut self, section: Section) -> Outcome {
        if self.last == section {
            return Ok(());
        }
        self.spinner.clear();
        match (self.last, section) {
            (Section::Nothing, Section::Reasoning) if !self.has_colour => output::piece("(thinking) ")?,
            (Section::Nothing, _) => {}
            (_, Section::Reasoning) if !self.has_colour => output::piece("\n\n(thinking) ")?,
            (Section::Reasoning, _) if !self.has_colour => output::piece("\n\n(answer) ")?,
            _ => output::piece("\n\n")?,
        }
        self.last = section;
        Ok(())
    }
}
