//! An interactive conversation: sends each text with all earlier messages.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};

use super::{
    prompt::{Input, Prompt},
    screen::Screen,
};
use crate::{
    chat::{self, Answer, ChatOptions, Delta, Route},
    client::HubClient,
    config::plain,
    exit::{Code, Failure, Outcome},
    output,
    signals::{Signals, Wanted},
};

const HELP: &str = "/system TEXT  tell the model who it is (alone: show it)
/clear        forget what was said
/save FILE    write the conversation (.json: as messages)
/exit         leave; Ctrl-D does too
Ctrl-C stops an answer. End a line with \\ to go on in the next, or put several lines between \"\"\".";

pub(super) struct Conversation<'a> {
    hub: &'a HubClient,
    route: Route,
    name: &'a str,
    options: ChatOptions,
    system: Option<String>,
    messages: Vec<Value>,
}

/// End of an answer that did not fail.
enum Ending {
    Complete(Answer),
    Stopped,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        hub: &'a HubClient,
        route: Route,
        name: &'a str,
        options: ChatOptions,
        system: Option<String>,
    ) -> Self {
        Self { hub, route, name, options, system, messages: Vec::new() }
    }

    /// Runs until the end of the input.
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
                Input::Text(text) if text.is_empty() => continue,
                Input::Text(text) => text,
                Input::Discarded => {
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
            match self.send(text, &mut signals).await {
                // The user can try again; a script must fail.
                Err(failure) if is_typed && failure.text().is_some() => {
                    output::note(format!("error: {}", failure.text().unwrap_or_default()));
                }
                Err(failure) => return Err(failure),
                Ok(()) => {}
            }
        }
    }

    /// Runs a slash command. Returns false for the end of the conversation.
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

    /// The system prompt and all messages.
    fn all_messages(&self) -> Vec<Value> {
        let system = self.system.as_ref().map(|text| json!({ "role": "system", "content": text }));
        system.into_iter().chain(self.messages.iter().cloned()).collect()
    }

    async fn send(&mut self, text: String, signals: &mut Signals) -> Outcome {
        self.messages.push(json!({ "role": "user", "content": text }));
        let request = self.options.request(&self.all_messages());
        let mut reply = String::new();
        let mut screen = Screen::start();
        let asking = chat::ask(self.hub, &self.route, &request, |delta| {
            if let Delta::Text(text) | Delta::Refusal(text) = delta {
                reply.push_str(text);
            }
            screen.show(delta)
        });
        let ending = tokio::select! {
            answer = asking => answer.map(Ending::Complete),
            wanted = signals.stop() => match wanted {
                Wanted::Interrupt if Prompt::is_terminal() => Ok(Ending::Stopped),
                Wanted::Interrupt => Err(Failure::silent(Code::Interrupted)),
                _ => Err(Failure::silent(Code::Failed)),
            },
        };
        let answer = match &ending {
            Ok(Ending::Complete(answer)) => Some(answer),
            _ => None,
        };
        screen.end(answer)?;
        match ending {
            Ok(Ending::Complete(answer)) => {
                print_statistics(&answer);
                if let Some(why) = answer.shortfall() {
                    output::note(format!("({why})"));
                }
            }
            Ok(Ending::Stopped) => output::note("(stopped)"),
            Err(failure) => {
                // The user can send the text again.
                self.messages.pop();
                return Err(failure);
            }
        }
        if reply.is_empty() {
            self.messages.pop();
        } else {
            self.messages.push(json!({ "role": "assistant", "content": reply }));
        }
        Ok(())
    }

    fn save(&self, path: &Path) -> Outcome {
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let text = if is_json {
            serde_json::to_string_pretty(&self.all_messages()).map_err(anyhow::Error::from)?
        } else {
            let section = |message: &Value| {
                let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                format!("## {}\n\n{}\n", text("role"), text("content"))
            };
            self.all_messages().iter().map(section).collect::<Vec<_>>().join("\n")
        };
        write_private(path, &text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {}", path.display(), plain(&error))))
    }
}

/// Writes a file with mode 0600. A file of another user, or one that other users can write, is refused.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = open(path)?;
    let kind = file.metadata()?.file_type();
    // A pipe is checked like a file, since its owner can read what is written to it; devices are not.
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

/// Opens a file to write, created with mode 0600. A link is followed unless others could have created it. A pipe without
/// a reader is an error at once.
fn open(path: &Path) -> io::Result<File> {
    let place = own_files::place(path)?;
    let mut flags = OFlag::O_NONBLOCK;
    if !place.is_linked {
        // The path may have become a link meanwhile.
        flags |= OFlag::O_NOFOLLOW;
    } else if let Some(doubt) = &place.doubt {
        return Err(doubt.into());
    }
    let path = if place.is_linked { path } else { &place.path };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits());
    let file = options.open(path)?;
    // Without `O_NONBLOCK`, a write waits for the reader of a pipe.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file)
}

/// Prints a status line on a terminal.
fn print_statistics(answer: &Answer) {
    if !(output::is_terminal() && Prompt::is_terminal()) {
        return;
    }
    let first = answer.to_first.as_secs_f64();
    let speed = answer.tokens_per_second().map(|speed| format!("{speed:.1} tokens/s, ")).unwrap_or_default();
    let line = format!("[{} tokens, {speed}first after {first:.2} s]", answer.tokens);
    output::note(if output::has_colour() { format!("\u{1b}[2m{line}\u{1b}[0m") } else { line });
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::symlink};

    use nix::sys::stat::Mode;

    use super::*;

    /// A pipe without a reader is an error at once, and a pipe that others could have created is refused.
    #[test]
    fn a_conversation_is_saved_only_to_an_own_pipe_with_a_reader() {
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
    fn a_conversation_is_not_saved_through_a_link_of_others() {
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
