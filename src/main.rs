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

/// A core dump would hold prompts, answers and tokens.
fn leave_no_core_dump() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_CORE) {
        // A system that does not let us lower a limit of our own has none to speak of.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, most);
    }
}

fn main() -> ExitCode {
    leave_no_core_dump();
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
