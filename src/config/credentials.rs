//! Where the hub is, and the token for it: a file, over which variables and options rule.

use actors::{CredentialsFile, Secret};

use super::{Places, files, keys, places::variable, report::Report, table::Table, url};
use crate::{
    cli::Global,
    exit::{Failure, Outcome},
};

/// A hub and a token for it, checked: the token may be sent there.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    /// Without a trailing slash.
    pub(crate) url: String,
    /// The bearer token.
    pub(crate) token: Secret,
    /// The credentials file, where the token came from it.
    pub(crate) file: Option<CredentialsFile>,
    /// Whether plain http to another machine was allowed.
    pub(crate) allow_insecure: bool,
}

/// What the file says.
#[derive(Debug, Default)]
struct Written {
    url: Option<String>,
    token: Option<String>,
    allow_insecure: bool,
    is_there: bool,
    /// What is doubtful.
    warnings: Vec<String>,
}

/// Finds hub and token: options over variables over the file. What is doubtful in the file is logged.
pub(crate) fn hub(global: &Global, places: &Places) -> Result<Hub, Failure> {
    let written = read(places)?;
    for warning in &written.warnings {
        log::warn!("{}: {warning}", places.credentials.display());
    }
    let found = found(global, places, written)?;
    if let Some(warning) = found.stray() {
        log::warn!("{}: {warning}", places.credentials.display());
    }
    Ok(found)
}

impl Hub {
    /// What is doubtful of a token that goes to another hub than the one that the file has it for.
    fn stray(&self) -> Option<String> {
        let own = self.file.as_ref()?.hub_url.as_deref()?;
        let is_own = url::http(own).is_ok_and(|own| own == self.url);
        (!is_own).then(|| {
            format!("its token is for {own} and goes to {}: give one of that hub's in MCPD_TOKEN", self.url)
        })
    }
}

/// As `hub`, with what is doubtful in the file for whoever wants to show it.
pub(crate) fn inspect_hub(global: &Global, places: &Places) -> (Vec<String>, Result<Hub, Failure>) {
    match read(places) {
        Ok(mut written) => {
            let mut warnings = std::mem::take(&mut written.warnings);
            let found = found(global, places, written);
            warnings.extend(found.as_ref().ok().and_then(Hub::stray));
            (warnings, found)
        }
        Err(failure) => (Vec::new(), Err(failure)),
    }
}

fn found(global: &Global, places: &Places, written: Written) -> Result<Hub, Failure> {
    let file = places.credentials.display();
    let url = global.hub_url.clone().filter(|url| !url.is_empty());
    let given = url.or_else(|| variable("MCPD_URL"));
    let from_file = given.is_none();
    let given_token = variable("MCPD_TOKEN");
    // Another token than the one that was given is never sent in its place.
    let is_of_file = given_token.is_none() && written.token.is_some();
    let origin = CredentialsFile { path: places.credentials.clone(), hub_url: written.url.clone() };
    let (url, token) = match (given.or(written.url), given_token.or(written.token)) {
        (Some(url), Some(token)) => (url, token),
        (url, token) => {
            let missing = match (&url, &token) {
                (None, Some(_)) => "no hub",
                (Some(_), None) => "no token",
                _ => "no credentials",
            };
            let state = if written.is_there { "complete" } else { "make" };
            return Err(Failure::usage(format!(
                "{missing}: {state} {file} with `virtual-llm login URL`, \
                 or as {{\"mcpdUrl\": \"https://…\", \"token\": \"…\"}}"
            )));
        }
    };
    let source = if from_file { format!("{file}: mcpdUrl") } else { "--hub-url or MCPD_URL".to_owned() };
    let url = url::http(&url).map_err(|why| Failure::usage(format!("{source}: {why}")))?;
    // What the file allows, it allows for the hub that it names.
    let is_files_hub = origin.hub_url.as_deref().is_some_and(|own| url::http(own).as_deref() == Ok(&*url));
    let allow_insecure = global.allow_insecure || written.allow_insecure && is_files_hub;
    check_transport(&url, allow_insecure)?;
    let token = checked_token(&token).ok_or_else(|| {
        Failure::usage(format!(
            "the token in {} is none: expected visible ASCII characters",
            if is_of_file { file.to_string() } else { "MCPD_TOKEN".to_owned() }
        ))
    })?;
    Ok(Hub { url, token, file: is_of_file.then_some(origin), allow_insecure })
}

/// Whether a token may be sent to `url`.
pub(crate) fn check_transport(url: &str, allow_insecure: bool) -> Result<(), Failure> {
    if allow_insecure || !url::is_plain_and_remote(url) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{url} would get the token over plain http, where others can read it: use https://, \
         or allow it with --allow-insecure"
    )))
}

/// Writes them down. Keys of other tools in the file stay.
pub(crate) fn write(places: &Places, url: &str, token: &Secret, allow_insecure: bool) -> Outcome {
    // A file that cannot be read, or that others could have written, is written anew: that is what a login is for.
    let before = files::json(&places.credentials).ok().flatten();
    let before = before.filter(|file| file.file.doubt().is_none()).map(|file| file.value);
    let mut keys = before.and_then(|value| value.as_object().cloned()).unwrap_or_default();
    keys.insert("mcpdUrl".to_owned(), url.into());
    keys.insert("token".to_owned(), token.reveal().into());
    if allow_insecure && url::is_plain_and_remote(url) {
        keys.insert("allowInsecure".to_owned(), true.into());
    } else {
        // It was said of another hub.
        keys.remove("allowInsecure");
    }
    files::write_secret(&places.credentials, &keys.into())
}

/// A token without the line end that a file leaves; `None` if it cannot be one.
pub(crate) fn checked_token(text: &str) -> Option<Secret> {
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
        .then(|| Secret::new(token.to_owned()))
}

fn read(places: &Places) -> Result<Written, Failure> {
    let path = &places.credentials;
    let Some(file) = files::json(path)? else { return Ok(Written::default()) };
    let mut report = Report::default();
    let mut written = Written { is_there: true, ..Written::default() };
    if let Some(doubt) = file.file.doubt() {
        return Err(Failure::usage(format!("cannot use {}: {doubt}", path.display())));
    }
    if file.file.others_can_read() {
        let mode = files::mode(&file.file);
        report.warn("", format!("others can read it (mode {mode}); run `chmod 600 {}`", path.display()));
    }
    if let Some(table) = Table::of(&file.value, "", keys::CREDENTIALS, &mut report) {
        written.url = table.text("mcpdUrl", &mut report).map(str::to_owned);
        written.token = table.text("token", &mut report).map(str::to_owned);
        written.allow_insecure = table.flag("allowInsecure", &mut report).unwrap_or_default();
    }
    written.warnings = report.warnings.iter().map(ToString::to_string).collect();
    match report.errors.first() {
        None => Ok(written),
        Some(error) => Err(Failure::usage(format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A11: what stands around a token is cut, what cannot be one is none, and nothing of it is printed.
    #[test]
    fn a_token_loses_its_line_end_and_what_cannot_be_one_is_none() {
        for text in ["abc", "abc\n", "abc\r\n", "  abc \n"] {
            assert_eq!(checked_token(text).unwrap().reveal(), "abc", "{text:?}");
        }
        for text in ["", "\n", "  ", "\u{feff}abc", "a b", "a\nb", "a\u{0}b", "tökén"] {
            assert!(checked_token(text).is_none(), "{text:?}");
        }
    }

    /// A token that goes to another hub than the one that it was given for is told of.
    #[test]
    fn a_token_that_goes_to_another_hub_than_its_own_is_told_of() {
        let stray = |own: Option<&str>, url: &str| {
            let path = std::path::PathBuf::from("/credentials");
            let file = Some(CredentialsFile { path, hub_url: own.map(str::to_owned) });
            let token = Secret::new("canary".to_owned());
            Hub { url: url.to_owned(), token, file, allow_insecure: false }.stray()
        };
        let warning = stray(Some("https://hub"), "https://other").unwrap();
        assert!(warning.contains("is for https://hub and goes to https://other"), "{warning}");
        assert!(!warning.contains("canary"));
        for (own, url) in [(Some("https://hub/"), "https://hub"), (None, "https://hub")] {
            assert_eq!(stray(own, url), None);
        }
        let token = Secret::new("canary".to_owned());
        let given = Hub { url: "https://other".to_owned(), token, file: None, allow_insecure: false };
        assert_eq!(given.stray(), None, "it was given with the address");
    }

    /// A11: a credentials file that others can read is found out, whichever others.
    #[test]
    fn a_credentials_file_that_others_can_read_is_found_out() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credentials");
        std::fs::write(&path, r#"{"mcpdUrl":"https://h","token":"canary"}"#).unwrap();
        let below = |name: &str| home.path().join(name);
        let places = Places {
            home: home.path().to_owned(),
            config: below("config.json"),
            credentials: path.clone(),
            session_file: below("provider-session"),
            socket: None,
        };
        for (mode, open) in [(0o644, true), (0o640, true), (0o604, true), (0o600, false), (0o400, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let written = read(&places).unwrap();
            let warned = written.warnings.iter().any(|warning| warning.contains("others can read it"));
            assert_eq!(warned, open, "{mode:o}: {:?}", written.warnings);
            assert!(!written.warnings.concat().contains("canary"));
            assert_eq!(written.token.as_deref(), Some("canary"));
        }
    }
}
