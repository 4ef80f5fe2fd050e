//! `service install`: writes the file for systemd or launchd that runs `publish` or `hub`.

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
    config::{Paths, inspect_credentials, plain, write_public},
    exit::{Failure, Outcome},
    output,
};

/// Largest existing file that is compared, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A file for a service manager.
struct Service {
    path: PathBuf,
    text: String,
    /// The commands that start it.
    next: String,
}

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
    if args.what == Served::Publish
        && let Some(name) = proxy_variable(global)
    {
        output::note(format!(
            "warning: the service does not have {name} of this shell: write the proxy into the credentials file with \
             `virtual-llm login URL --proxy PROXY`"
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

/// The environment variable that names the proxy on the way to the hub, if none is configured.
fn proxy_variable(global: &Global) -> Option<String> {
    let (_, credentials) = inspect_credentials(global, &Paths::find(global).ok()?);
    let proxy = credentials.ok()?.proxy?;
    env::var_os(proxy.source()).map(|_| proxy.source().to_owned())
}

/// Checks the hub's `--public-url`, so that an error is reported now and not at the start of the service.
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

/// The program and its arguments, with the global options of this call. Paths are absolute, since the service runs in
/// another folder.
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
        if let Some(proxy) = &global.proxy {
            line.extend(["--proxy".to_owned(), proxy.reveal().to_owned()]);
        }
        if global.allow_insecure {
            line.push("--allow-insecure".to_owned());
        }
    }
    line.extend(args.rest.iter().cloned());
    let next = line.windows(2).filter(|two| two[0] == "--proxy").map(|two| two[1].as_str());
    let joined = line.iter().filter_map(|word| word.strip_prefix("--proxy="));
    if next.chain(joined).any(|proxy| proxy.contains('@')) {
        return Err(Failure::usage(
            "the user and password of --proxy would be in a file and a list of processes that others can read: \
             write them into the credentials file with `virtual-llm login URL --proxy PROXY`",
        ));
    }
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
    let existing = OwnFile::open(path).and_then(|file| file.read_text(MAX_FILE));
    // An unreadable file differs; `write_public` refuses anything but a regular file.
    let differs = existing.map_or_else(|_| path.is_file(), |existing| existing != service.text);
    if !force && differs {
        return Err(Failure::failed(format!(
            "{} is there and differs: --force replaces it, --print shows the new one",
            path.display()
        )));
    }
    if let Some(folder) = path.parent() {
        // Other users must not write here: a unit runs commands as its user.
        DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(cannot)?;
    }
    write_public(path, service.text.as_bytes()).map_err(cannot)
}

/// The home folder of the user.
fn home() -> Result<PathBuf, Failure> {
    env::home_dir()
        .filter(|home| home.is_absolute())
        .ok_or_else(|| Failure::usage("there is no home folder: set HOME"))
}

/// Whether the program is in a home folder, which other users may be unable to read.
fn is_in_a_home(program: &Path) -> bool {
    ["/home", "/root", "/Users"].iter().any(|folder| program.starts_with(folder))
}
