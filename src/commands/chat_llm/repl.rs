//! The conversation: says what the person types with all that was said before, and shows the answer as it comes.

use std::{
    fs::Permissions,
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    prompt::{Input, Prompt},
    screen::Screen,
};
use crate::{
    chat::{self, Answer, Door, Heard, Manner},
    client::HubClient,
    config::{open_to_write, plain},
    exit::{Code, Failure, Outcome},
    output,
    signals::{Signals, Wanted},
};

const HELP: &str = "/system TEXT  tell the model who it is (alone: show it)
/clear        forget what was said
/save FILE    write the conversation (.json: as messages)
/exit         leave; Ctrl-D does too
Ctrl-C stops an answer. End a line with \\ to go on in the next, or put several lines between \"\"\".";

/// What was said so far.
pub(super) struct Conversation<'a> {
    hub: &'a HubClient,
    door: Door,
    name: &'a str,
    manner: Manner,
    system: Option<String>,
    messages: Vec<Value>,
}

/// How an answer ended, if it did not fail.
enum Ending {
    Whole(Answer),
    Stopped,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        hub: &'a HubClient,
        door: Door,
        name: &'a str,
        manner: Manner,
        system: Option<String>,
    ) -> Self {
        Self { hub, door, name, manner, system, messages: Vec::new() }
    }

    /// Talks until the person leaves.
    pub(super) async fn run(&mut self, mut prompt: Prompt, mut signals: Signals) -> Outcome {
        let is_typed = Prompt::is_terminal();
        if is_typed {
            output::note(format!("Talking to {}; /help lists what else there is, Ctrl-D leaves.", self.name));
        }
        loop {
            let input = tokio::select! {
                input = prompt.next() => input,
                wanted = signals.stop() => match wanted {
                    Wanted::Interrupt => return Err(Failure::silent(Code::Interrupted)),
                    _ => return Err(Failure::silent(Code::Failed)),
                },
            };
            let text = match input {
                Input::Said(text) if text.is_empty() => continue,
                Input::Said(text) => text,
                Input::Abandoned => {
                    output::note("(Ctrl-D leaves)");
                    continue;
                }
                Input::Ended => return Ok(()),
            };
            if let Some(command) = text.strip_prefix('/') {
                match self.command(command) {
                    Ok(true) => continue,
                    Ok(false) => return Ok(()),
                    Err(failure) if is_typed && failure.text().is_some() => {
                        output::note(format!("error: {}", failure.text().unwrap_or_default()));
                        continue;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            match self.say(text, &mut signals).await {
                // A person may try again; a script must know.
                Err(failure) if is_typed && failure.text().is_some() => {
                    output::note(format!("error: {}", failure.text().unwrap_or_default()));
                }
                Err(failure) => return Err(failure),
                Ok(()) => {}
            }
        }
    }

    /// A line that begins with a slash. False: leave.
    fn command(&mut self, line: &str) -> Result<bool, Failure> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "exit" | "quit" | "bye" => return Ok(false),
            "help" | "?" => output::note(HELP),
            "clear" => {
                self.messages.clear();
                output::note("(forgotten)");
            }
            "system" if rest.is_empty() => output::note(self.system.as_deref().unwrap_or("(none)")),
            "system" => self.system = Some(rest.to_owned()),
            "save" if rest.is_empty() => return Err(Failure::failed("/save needs the name of a file")),
            "save" => {
                self.save(Path::new(rest))?;
                output::note(format!("(written to {rest})"));
            }
            _ => {
                return Err(Failure::failed(format!(
                    "there is no /{}; /help lists what there is",
                    output::printable(word)
                )));
            }
        }
        Ok(true)
    }

    fn all(&self) -> Vec<Value> {
        let system = self.system.as_ref().map(|text| json!({ "role": "system", "content": text }));
        system.into_iter().chain(self.messages.iter().cloned()).collect()
    }

    async fn say(&mut self, text: String, signals: &mut Signals) -> Outcome {
        self.messages.push(json!({ "role": "user", "content": text }));
        let request = self.manner.request(&self.all());
        let mut heard_text = String::new();
        let mut screen = Screen::start();
        let asking = chat::ask(self.hub, &self.door, &request, |heard| {
            if let Heard::Text(text) | Heard::Refusal(text) = heard {
                heard_text.push_str(text);
            }
            screen.hear(heard)
        });
        let ending = tokio::select! {
            answer = asking => answer.map(Ending::Whole),
            wanted = signals.stop() => match wanted {
                Wanted::Interrupt if Prompt::is_terminal() => Ok(Ending::Stopped),
                Wanted::Interrupt => Err(Failure::silent(Code::Interrupted)),
                _ => Err(Failure::silent(Code::Failed)),
            },
        };
        let answer = match &ending {
            Ok(Ending::Whole(answer)) => Some(answer),
            _ => None,
        };
        screen.end(answer)?;
        match ending {
            Ok(Ending::Whole(answer)) => {
                tell(&answer);
                if let Some(why) = answer.shortfall() {
                    output::note(format!("({why})"));
                }
            }
            Ok(Ending::Stopped) => output::note("(stopped)"),
            Err(failure) => {
                // So that it can be said again.
                self.messages.pop();
                return Err(failure);
            }
        }
        if heard_text.is_empty() {
            self.messages.pop();
        } else {
            self.messages.push(json!({ "role": "assistant", "content": heard_text }));
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Outcome {
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = if is_json {
            serde_json::to_string_pretty(&self.all()).map_err(anyhow::Error::from)?
        } else {
            let said = |message: &Value| {
                let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                format!("## {}\n\n{}\n", text("role"), text("content"))
            };
            self.all().iter().map(said).collect::<Vec<_>>().join("\n")
        };
        write_private(path, &text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error))))
    }
}

/// Writes what is nobody else's business: a file is, or becomes, readable by its owner alone, and one of others is refused.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = open_to_write(path, 0o600)?;
    let kind = file.metadata()?.file_type();
    // Somebody reads at the other end of a pipe: whose it is says who.
    if (kind.is_file() || kind.is_fifo())
        && let Some(doubt) = own_files::doubt_of(&file, path)?
    {
        return Err((&doubt).into());
    }
    if kind.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}

/// The status line: for a person at a terminal.
fn tell(answer: &Answer) {
    if !(output::is_terminal() && Prompt::is_terminal()) {
        return;
    }
    let first = answer.to_first.as_secs_f64();
    let pace = answer.pace().map(|pace| format!("{pace:.1} tokens/s, ")).unwrap_or_default();
    let line = format!("[{} tokens, {pace}first after {first:.2} s]", answer.tokens);
    output::note(if output::has_colour() { format!("\u{1b}[2m{line}\u{1b}[0m") } else { line });
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use nix::sys::stat::Mode;

    use super::*;

    /// A pipe that nobody reads is an error and no wait, and one that others could have made is none to write into.
    #[test]
    fn a_conversation_goes_into_no_pipe_but_an_own_one_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        write_private(&path, "said").unwrap_err();
        let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        write_private(&path, "said").unwrap();
        let mut said = [0; 4];
        reader.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"said");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        write_private(&path, "said").unwrap_err();
    }

    #[test]
    fn a_conversation_is_not_saved_through_a_link_in_a_folder_that_others_can_write() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("own");
        fs::write(&own, "mine").unwrap();
        let shared = top.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
        symlink(&own, shared.join("link")).unwrap();
        write_private(&shared.join("link"), "said").unwrap_err();
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        write_private(&shared.join("file"), "said").unwrap();
        assert_eq!(shared.join("file").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
