//! The log on standard error. `RUST_LOG` rules over `-v` and `-q`.

mod json;
mod limits;
mod sink;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use env_logger::{Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record};
use wire::fields;

use crate::{
    cli::{Cli, Command, LogFormat},
    output,
    output::printable,
};

use limits::{COUNTED, Limits, is_own};
use sink::Sink;

/// Destination of the log after the start.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Format of the log after the start.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Crates that log at the level of `-v` and `-q`. Other crates may log headers and bodies, and so tokens and prompts, below
/// the level `info`: their lines below it are dropped. `backend` logs no more than a warning.
const OWN_CRATES: [&str; 4] = ["virtual_llm", "actors", "hub", "wire"];

/// Starts logging. Called once, at the start of the program.
pub(crate) fn start(cli: &Cli) {
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.is_empty() => {
            builder.parse_filters(&filters);
        }
        _ => {
            builder.filter_level(LevelFilter::Warn);
            for name in OWN_CRATES {
                builder.filter_module(name, level(cli));
            }
        }
    }
    let format = *FORMAT.get_or_init(|| format(cli));
    builder.format(move |out, record| {
        if format == LogFormat::Json {
            return out.write_all(json::of_record(record, fields::take()).as_bytes());
        }
        let level = record.level();
        let style = out.default_level_style(level);
        let (time, target) = (out.timestamp_millis(), record.target());
        let target = target.strip_suffix(COUNTED).unwrap_or(target);
        // Line ends are escaped, so that no text can forge a line.
        let text = record.args().to_string();
        writeln!(out, "{time} {style}{level:5}{style:#} {target}: {}", printable(&text))
    });
    // Without the thread of the sink, records are written directly.
    if let Ok(sink) = Sink::start(io::stderr(), notice) {
        let style = if output::allows_colour(io::stderr().is_terminal()) {
            WriteStyle::Always
        } else {
            WriteStyle::Never
        };
        builder.write_style(style).target(Target::Pipe(Box::new(SINK.get_or_init(|| sink).clone())));
    }
    let logger = builder.build();
    let max_level = logger.filter();
    if log::set_boxed_logger(Box::new(Filter(logger, Limits::default()))).is_ok() {
        log::set_max_level(max_level);
    }
}

/// The format that the command line asks for: only the hub and the registrar have one.
fn format(cli: &Cli) -> LogFormat {
    match &cli.command {
        Command::Hub(args) => args.log_format,
        Command::Publish(args) => args.log_format,
        _ => LogFormat::Text,
    }
}

fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// The line about lines that were lost.
fn notice(lost: u64) -> Vec<u8> {
    let text = format!("({lost} lines of the log were lost: nobody read it)\n");
    if is_json() { json::of_note(&text) } else { text }.into_bytes()
}

fn level(cli: &Cli) -> LevelFilter {
    // On a terminal the log would interrupt the chat of `up`.
    let is_chat = matches!(cli.command, Command::Up(_)) && io::stderr().is_terminal();
    match (cli.global.verbose, cli.global.quiet) {
        (0, 0) if is_chat => LevelFilter::Warn,
        (0, 0) => LevelFilter::Info,
        (1, _) => LevelFilter::Debug,
        (2.., _) => LevelFilter::Trace,
        (_, 1) => LevelFilter::Warn,
        (_, 2..) => LevelFilter::Error,
    }
}

/// Writes a text to standard error, after all earlier lines of the log. The text is lost if standard error is a full pipe.
pub(crate) fn write(text: &str) {
    let json;
    let text = if is_json() {
        json = json::of_note(text);
        &json
    } else {
        text
    };
    match SINK.get() {
        Some(sink) => {
            sink.push(text.as_bytes());
            sink.flush();
        }
        None => drop(io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Has log lines wait until the guard is dropped, so that none is in the middle of what standard output shows.
pub(crate) fn hold() -> Held {
    if let Some(sink) = SINK.get() {
        sink.hold();
    }
    Held(())
}

/// Log lines wait while this exists, or until a note is written.
pub(crate) struct Held(());

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(sink) = SINK.get() {
            sink.release();
        }
    }
}

/// Waits until all lines are written, at most as long as a flush of the sink.
pub(crate) fn flush() {
    if let Some(sink) = SINK.get() {
        sink.flush();
    }
}

/// Drops lines of other crates below `info`, and lines above the limits.
struct Filter(env_logger::Logger, Limits);

impl Log for Filter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (metadata.level() <= LevelFilter::Info || is_own(metadata)) && self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || is_late_caller(record) {
            return;
        }
        // Those of this line alone, not of the notices.
        let own = fields::take();
        let (is_due, missed) = self.1.check(record, self.1.start.elapsed());
        for text in missed {
            let metadata = Metadata::builder().level(Level::Warn).target(module_path!()).build();
            self.0.log(&Record::builder().metadata(metadata).args(format_args!("{text}")).build());
        }
        if is_due {
            fields::with_taken(own, || self.0.log(record));
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// Whether a record is the error of actix-server about a connection that arrives while the hub stops.
fn is_late_caller(record: &Record<'_>) -> bool {
    record.target().starts_with("actix_server") && record.args().as_str() == Some("No workers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_during_the_stop_is_not_logged() {
        let is = |target, args| is_late_caller(&Record::builder().target(target).args(args).build());
        assert!(is("actix_server::accept", format_args!("No workers")));
        assert!(!is("actix_server::accept", format_args!("Error accepting connection")));
        assert!(!is("hub::server", format_args!("No workers")));
    }
}
