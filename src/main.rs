//! The `virtual-llm` program.

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

/// mimalloc: glibc's allocator calls the kernel for every page on the thread of the hub (docs/benchmarks.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Disables core dumps: they would contain prompts, answers and tokens.
fn disable_core_dumps() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        // A process may always lower its soft limit.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
}

fn main() -> ExitCode {
    disable_core_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are not errors. Errors of a closed pipe are ignored.
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
                // The text may quote a hub, or a configuration of another author.
                output::note(format!("error: {}", output::printable_answer(text)));
            }
            failure.code()
        }
    }
}
