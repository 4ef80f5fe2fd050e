//! The virtual-llm command.

mod chat;
mod cli;
mod client;
mod commands;
mod config;
mod control;
#[cfg(test)]
mod corpora;
mod discover;
mod exit;
mod logging;
mod notify;
mod output;
mod signals;
mod spinner;

use std::process::ExitCode;

use clap::Parser as _;

use cli::Cli;

/// The hub works on a thread of its own, where glibc's allocator asks the kernel for every page (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are no errors; who closed the pipe does not want them.
            drop(answer.print());
            return ExitCode::from(if answer.use_stderr() { exit::Code::Usage as u8 } else { 0 });
        }
    };
    logging::start(&cli);
    actors::install_panic_hook();
    let outcome = actix_rt::System::new().block_on(commands::run(cli));
    logging::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                output::note(format!("error: {text}"));
            }
            failure.code()
        }
    }
}
