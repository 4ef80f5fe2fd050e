//! `completions`: what a shell needs to know.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, exit::Outcome, output};

/// Prints the script for `shell`.
pub(crate) fn run(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "virtual-llm", &mut script);
    output::piece(String::from_utf8_lossy(&script))
}
