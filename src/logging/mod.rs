//! Logs go to standard error. `RUST_LOG` rules over `-v` and `-q`.

mod sink;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use env_logger::{Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use tokio::time::Instant;
use wire::pace::Pace;

use crate::{
    cli::{Cli, Command},
    output,
    output::printable,
};

use sink::Sink;

/// The one there is, when logging has started.
static SINK: OnceLock<Sink> = OnceLock::new();

/// The crates that are ours. Others may log headers and bodies when asked for everything, and a token or a prompt
/// must be in no log line at any level: what they say is cut at `info`.
const OURS: [&str; 4] = ["virtual_llm", "actors", "hub", "wire"];

/// Starts logging. Called once, first thing.
pub(crate) fn start(cli: &Cli) {
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.is_empty() => {
            builder.parse_filters(&filters);
        }
        _ => {
            builder.filter_level(LevelFilter::Warn);
            for name in OURS {
                builder.filter_module(name, level(cli));
            }
        }
    }
    builder.format(|out, record| {
        let level = record.level();
        let style = out.default_level_style(level);
        let (time, target) = (out.timestamp_millis(), record.target());
        let target = target.strip_suffix(COUNTED).unwrap_or(target);
        // One record, one line: what a hub or a backend says cannot forge another.
        let text = record.args().to_string();
        writeln!(out, "{time} {style}{level:5}{style:#} {target}: {}", printable(&text))
    });
    // Without a thread of its own the log is written by whoever logs.
    if let Ok(sink) = Sink::start(io::stderr()) {
        let style = if output::is_colourful(io::stderr().is_terminal()) {
            WriteStyle::Always
        } else {
            WriteStyle::Never
        };
        builder.write_style(style).target(Target::Pipe(Box::new(SINK.get_or_init(|| sink).clone())));
    }
    let logger = builder.build();
    let most = logger.filter();
    if log::set_boxed_logger(Box::new(OursInFull(logger, Places::default()))).is_ok() {
        log::set_max_level(most);
    }
}

fn level(cli: &Cli) -> LevelFilter {
    // What `up` shows a person is the chat: on a terminal the log would stand in the middle of it.
    let is_a_show = matches!(cli.command, Command::Up(_)) && io::stderr().is_terminal();
    match (cli.global.verbose, cli.global.quiet) {
        (0, 0) if is_a_show => LevelFilter::Warn,
        (0, 0) => LevelFilter::Info,
        (1, _) => LevelFilter::Debug,
        (2.., _) => LevelFilter::Trace,
        (_, 1) => LevelFilter::Warn,
        (_, 2..) => LevelFilter::Error,
    }
}

/// Says something to the person on standard error, after all that was logged before. Lost if nobody can read it.
pub(crate) fn say(text: &str) {
    match SINK.get() {
        Some(sink) => {
            sink.push(text.as_bytes());
            sink.flush();
        }
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Waits until all that was logged is written, if somebody reads it.
pub(crate) fn flush() {
    if let Some(sink) = SINK.get() {
        sink.flush();
    }
}

struct OursInFull(env_logger::Logger, Places);

/// Lines that one place in our code may log in a minute, whoever causes them: twenty for each of thirty users.
const LINES: u32 = 600;
/// Lines that one place in a library may: what strangers do to a connection is told by some of it.
const OTHERS_LINES: u32 = 20;
/// What the target of a line ends with that hub or registrar have counted by its source (`news!`), or that counts these:
/// nobody's lines make another's fall out.
const COUNTED: &str = "::news";

/// How often each place in the code has logged: what hub and registrar do not count by its source themselves, what a
/// library says, has an end, too.
struct Places {
    began: Instant,
    ours: Mutex<Pace>,
    others: Mutex<Pace>,
}

impl Default for Places {
    fn default() -> Self {
        let [ours, others] = [LINES, OTHERS_LINES].map(|lines| Mutex::new(Pace::new(lines)));
        Self { began: Instant::now(), ours, others }
    }
}

impl Places {
    /// Whether this line is written, and what has to be said of lines that were not.
    fn look(&self, record: &Record<'_>, after: Duration) -> (bool, Vec<String>) {
        // Who asks for more wants all of it.
        if record.level() > Level::Info || record.target().ends_with(COUNTED) {
            return (true, Vec::new());
        }
        let mut missed = Vec::new();
        let [ours, others] = [&self.ours, &self.others].map(|pace| {
            let mut pace = pace.lock();
            missed.extend(pace.missed(after));
            pace
        });
        let mut pace = if is_ours(record.metadata()) { ours } else { others };
        // What comes by way of `tracing` has no file of its own.
        let (file, line) =
            (record.file().unwrap_or_else(|| record.target()), record.line().unwrap_or_default());
        let is_due = pace.tells(PLACE, &format!("{file}:{line}"));
        let told = missed
            .into_iter()
            .map(|missed| format!("{} more lines in the last minute from {}", missed.count, missed.source));
        (is_due, told.collect())
    }
}

/// The kind of all lines here.
const PLACE: &str = "place";

/// Whether one of our crates says it.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    OURS.contains(&metadata.target().split("::").next().unwrap_or_default())
}

impl Log for OursInFull {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (metadata.level() <= LevelFilter::Info || is_ours(metadata)) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || is_goodbye(record) {
            return;
        }
        let (is_due, missed) = self.1.look(record, self.1.began.elapsed());
        for text in missed {
            let metadata = Metadata::builder().level(Level::Warn).target(module_path!()).build();
            self.0.log(&Record::builder().metadata(metadata).args(format_args!("{text}")).build());
        }
        if is_due {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// A caller who comes while the hub goes: actix-server calls it an error that there is nobody to serve him any more.
fn is_goodbye(record: &Record<'_>) -> bool {
    record.target().starts_with("actix_server") && record.args().as_str() == Some("No workers")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "hub::connections";

    fn look(
        places: &Places,
        target: &str,
        file: Option<&'static str>,
        level: Level,
        seconds: u64,
    ) -> (bool, Vec<String>) {
        let mut record = Record::builder();
        record.target(target).file_static(file).line(Some(1)).level(level);
        places.look(&record.build(), Duration::from_secs(seconds))
    }

    #[test]
    fn one_place_in_the_code_cannot_fill_the_log_and_what_it_did_not_say_is_counted() {
        let places = Places::default();
        let told = |target, file, level| {
            (0..2000).filter(|_| look(&places, target, Some(file), level, 59).0).count()
        };
        assert_eq!(
            (
                told(HERE, "a.rs", Level::Warn),
                told(HERE, "b.rs", Level::Info),
                told(HERE, "a.rs", Level::Debug)
            ),
            (600, 600, 2000)
        );
        let (is_due, mut missed) = look(&places, HERE, Some("a.rs"), Level::Info, 60);
        missed.sort();
        assert!(is_due);
        assert_eq!(
            missed,
            [
                "1400 more lines in the last minute from a.rs:1",
                "1400 more lines in the last minute from b.rs:1"
            ]
        );
    }

    #[test]
    fn what_a_stranger_makes_a_library_say_is_told_some_times_whether_its_file_is_known_or_not() {
        let places = Places::default();
        for (target, file) in [("actix_http::h1::dispatcher", None), ("rustls::conn", Some("conn.rs"))] {
            let told = (0..100_000).filter(|_| look(&places, target, file, Level::Error, 1).0).count();
            assert_eq!(told, 20, "{target}");
        }
        let mut missed = look(&places, HERE, None, Level::Info, 61).1;
        missed.sort();
        assert_eq!(
            missed,
            [
                "99980 more lines in the last minute from actix_http::h1::dispatcher:1",
                "99980 more lines in the last minute from conn.rs:1"
            ]
        );
    }

    /// What was counted by its source is told for each, from however many at one place in the code.
    #[test]
    fn a_line_that_was_counted_by_its_source_is_not_counted_by_its_place() {
        let (places, mut pace) = (Places::default(), Pace::new(wire::pace::LINES));
        for user in 0..40 {
            let told = (0..50).filter(|_| {
                pace.tells("failed", &format!("user {user}"))
                    && look(&places, "hub::telemetry::inference::news", Some("inference.rs"), Level::Info, 1)
                        .0
            });
            assert_eq!(told.count(), 20, "user {user}");
        }
    }

    #[test]
    fn a_caller_who_comes_too_late_is_no_error() {
        let is = |target, args| is_goodbye(&Record::builder().target(target).args(args).build());
        assert!(is("actix_server::accept", format_args!("No workers")));
        assert!(!is("actix_server::accept", format_args!("Error accepting connection")));
        assert!(!is("hub::server", format_args!("No workers")));
    }
}
