//! What `launch` gives to a coding agent, as data: `child` runs it, `print` shows it.

use std::ffi::OsString;

/// Environment, arguments and temporary files of a coding agent.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Variables to set.
    pub(super) set: Vec<(&'static str, Setting)>,
    /// Variables to remove: with them the agent would use another server, account or model.
    pub(super) unset: Vec<&'static str>,
    pub(super) args: Vec<Arg>,
    /// Temporary files, without secrets.
    pub(super) files: Vec<TemporaryFile>,
}

/// Value of a variable.
#[derive(Debug)]
pub(super) enum Setting {
    Text(OsString),
    /// The token for the hub, which no plan contains.
    Token,
    /// The path of the file with this index in [`Plan::files`].
    File(usize),
}

/// One argument.
#[derive(Debug)]
pub(super) enum Arg {
    Text(OsString),
    /// The path of the file with this index in [`Plan::files`].
    File(usize),
}

/// A file that exists as long as the agent runs.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Plan {
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.set.push((name, Setting::Text(value.into())));
    }

    pub(super) fn token(&mut self, name: &'static str) {
        self.set.push((name, Setting::Token));
    }

    pub(super) fn args<T: Into<OsString>>(&mut self, args: impl IntoIterator<Item = T>) {
        self.args.extend(args.into_iter().map(|arg| Arg::Text(arg.into())));
    }

    /// Adds a temporary file. Returns its index.
    pub(super) fn file(&mut self, name: &'static str, text: String) -> usize {
        self.files.push(TemporaryFile { name, text });
        self.files.len() - 1
    }
}
