//! `service install`: the file by which systemd or launchd runs `publish` or `hub`.

mod launchd;
mod systemd;
#[cfg(test)]
mod tests;

use std::{
    env,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use own_files::OwnFile;

use crate::{
    cli::{Global, InstallArgs, Manager, Served, ServiceCommand},
    config::{plain, write_public},
    exit::{Failure, Outcome},
    output,
};

/// Longest file of ours by far; a longer one is no file of ours.
const LONGEST: u64 = 1 << 20;

/// A file for a service manager, and what to do with it.
struct Service {
    path: PathBuf,
    text: String,
    /// The commands that start it.
    next: String,
}

/// Runs it.
pub(crate) fn run(global: &Global, command: &ServiceCommand) -> Outcome {
    let ServiceCommand::Install(args) = command;
    let program = env::current_exe()
        .map_err(|error| Failure::failed(format!("cannot tell where this program is: {}", plain(&error))))?;
    let line = command_line(&program, global, args)?;
    let public_url = public_url(args)?;
    let service = match args.manager.unwrap_or(default_manager()) {
        Manager::Systemd => systemd::service(args.what, &line)?,
        Manager::Launchd => launchd::service(args.what, &line)?,
    };
    if args.print {
        return output::piece(&service.text);
    }
    write(&service, args.force)?;
    output::line(format!("wrote {}", service.path.display()))?;
    if args.what == Served::Hub && is_in_a_home(&program) {
        output::note(format!(
            "warning: the hub's own user may not reach {}: copy the program to /usr/local/bin and install again from there",
            program.display()
        ));
    }
    output::line(format!("Start it:\n{}", service.next))?;
    match public_url {
        Some(url) => {
            output::line(format!("Then log in as its admin, with that token:\n  virtual-llm login {url}"))
        }
        None => Ok(()),
    }
}

/// The hub's `--public-url`: a service that cannot start helps nobody, so a wrong one is found here.
fn public_url(args: &InstallArgs) -> Result<Option<String>, Failure> {
    if args.what != Served::Hub {
        return Ok(None);
    }
    let mut words = args.rest.iter();
    let mut given = None;
    while let Some(word) = words.next() {
        let text = match word.strip_prefix("--public-url") {
            Some("") => words.next().map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => continue,
        };
        let text = text.ok_or_else(|| Failure::usage("--public-url needs an address"))?;
        let url = crate::cli::public_url(text)
            .map_err(|why| Failure::usage(format!("--public-url '{text}': {why}")))?;
        given = Some(url);
    }
    Ok(given)
}

const fn default_manager() -> Manager {
    if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd }
}

/// The program and its arguments, with what this call was told: the service runs elsewhere, so paths are absolute.
fn command_line(program: &Path, global: &Global, args: &InstallArgs) -> Result<Vec<String>, Failure> {
    let text = |path: &Path| {
        let absolute =
            std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok());
        absolute.ok_or_else(|| Failure::usage(format!("{}: expected a path in UTF-8", path.display())))
    };
    let mut line = vec![text(program)?];
    line.push(if args.what == Served::Hub { "hub" } else { "publish" }.to_owned());
    if args.what == Served::Publish {
        let paths = [
            ("--home", &global.home),
            ("--config", &global.config),
            ("--credentials", &global.credentials),
            ("--session-file", &global.session_file),
            ("--ca-file", &global.ca_file),
        ];
        for (option, path) in paths {
            if let Some(path) = path {
                line.extend([option.to_owned(), text(path)?]);
            }
        }
        if let Some(url) = &global.hub_url {
            line.extend(["--hub-url".to_owned(), url.clone()]);
        }
        if global.allow_insecure {
            line.push("--allow-insecure".to_owned());
        }
    }
    line.extend(args.rest.iter().cloned());
    match line.iter().find(|word| word.contains(char::is_control)) {
        Some(_) => {
            Err(Failure::usage("an option has a control character in it, which a service file cannot hold"))
        }
        None => Ok(line),
    }
}

fn write(service: &Service, force: bool) -> Outcome {
    let path = &service.path;
    let cannot = |error: std::io::Error| {
        let hint =
            if error.kind() == std::io::ErrorKind::PermissionDenied { "; run it with sudo" } else { "" };
        Failure::failed(format!("cannot write {}: {}{hint}", path.display(), plain(&error)))
    };
    let there = OwnFile::open(path).and_then(|file| file.read_text(LONGEST));
    // A file that cannot be read is there, too; what is none is refused below.
    let differs = there.map_or_else(|_| path.is_file(), |there| there != service.text);
    if !force && differs {
        return Err(Failure::failed(format!(
            "{} is there and differs: --force replaces it, --print shows the new one",
            path.display()
        )));
    }
    if let Some(folder) = path.parent() {
        // Whoever can write a unit runs commands as its user: whatever the umask, others only read.
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(cannot)?;
    }
    write_public(path, service.text.as_bytes()).map_err(cannot)
}

/// The folder of a person's own service files.
fn home() -> Result<PathBuf, Failure> {
    env::home_dir()
        .filter(|home| home.is_absolute())
        .ok_or_else(|| Failure::usage("there is no home folder: set HOME"))
}

/// Where only one person gets in.
fn is_in_a_home(program: &Path) -> bool {
    ["/home", "/root", "/Users"].iter().any(|folder| program.starts_with(folder))
}
