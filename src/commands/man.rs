//! `man`: writes manual pages, one a command, from the texts of `--help`.

use std::{
    fs::DirBuilder,
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::{
    cli::Cli,
    config::{plain, write_public},
    exit::{Failure, Outcome},
    output,
};

/// Writes the pages into `folder`.
pub(crate) fn run(folder: &Path) -> Outcome {
    // Other users may be able to write the folder, such as `~/.local`; `write_public` follows none of their links.
    DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| cannot(folder, &error))?;
    // No page for `help`.
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    write(&root, folder, &mut pages)?;
    let count = pages.len();
    output::line(format!("{count} pages in {}; try `man virtual-llm`", folder.display()))
}

fn write(command: &clap::Command, folder: &Path, pages: &mut Vec<PathBuf>) -> Outcome {
    let is_root = pages.is_empty();
    // Options of all commands are on the first page only.
    let shown = command.clone().mut_args(|arg| {
        let is_everywhere = arg.is_global_set() || matches!(arg.get_id().as_str(), "help" | "version");
        arg.hide(is_everywhere && !is_root)
    });
    let man = Man::new(shown);
    let path = folder.join(man.get_filename());
    let page = page(&man, command, is_root).map_err(|error| cannot(&path, &error))?;
    write_public(&path, &page).map_err(|error| cannot(&path, &error))?;
    pages.push(path);
    command.get_subcommands().try_for_each(|inner| write(inner, folder, pages))
}

fn page(man: &Man, command: &clap::Command, is_root: bool) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let name = command.get_display_name().unwrap_or("virtual-llm");
    // clap's title omits the empty date and shifts the fields after it. The date is empty so that builds are reproducible.
    writeln!(page, ".TH {name} 1 \"\" \"virtual-llm {}\" \"virtual-llm\"", env!("CARGO_PKG_VERSION"))?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    // The help texts consist of blocks with a heading each: examples, variables, exit codes.
    for block in after.split("\n\n") {
        let (head, text) = block.split_once(':').unwrap_or(("", block));
        writeln!(page, ".SH {}\n.nf", head.to_uppercase())?;
        for line in text.trim_start().lines() {
            let line = line.replace('\\', "\\e").replace('-', "\\-");
            // `\\&` protects a full stop or an apostrophe at the start of a line, which would begin a request.
            writeln!(page, "\\&{}", line.strip_prefix("  ").unwrap_or(&line))?;
        }
        writeln!(page, ".fi")?;
    }
    if !is_root {
        writeln!(page, ".SH SEE ALSO\n\\fBvirtual\\-llm\\fR(1) has the options that every command takes.")?;
    }
    Ok(page)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {}", path.display(), plain(error)))
}
