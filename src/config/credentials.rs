//! The hub's URL and the token: options rule over environment variables, these over the credentials file.

use actors::{Credentials, CredentialsFile, Secret, http::Proxy};

use super::{Paths, files, keys, paths::variable, proxy, reader::ObjectReader, report::Report, url};
use crate::{
    cli::Global,
    exit::{Failure, Outcome},
};

/// Content of the credentials file.
#[derive(Debug, Default)]
struct Stored {
    url: Option<String>,
    token: Option<String>,
    allow_insecure: bool,
    proxy: Option<Secret>,
    exists: bool,
    warnings: Vec<String>,
}

/// Finds hub and token, and checks that the token may be sent there. Warnings about the file are logged.
pub(crate) fn credentials(global: &Global, paths: &Paths) -> Result<Credentials, Failure> {
    let (warnings, credentials) = inspect_credentials(global, paths);
    for warning in warnings {
        log::warn!("{}: {warning}", paths.credentials.display());
    }
    credentials
}

/// As [`credentials`], with the warnings returned.
pub(crate) fn inspect_credentials(
    global: &Global,
    paths: &Paths,
) -> (Vec<String>, Result<Credentials, Failure>) {
    let mut stored = match read(paths) {
        Ok(stored) => stored,
        Err(failure) => return (Vec::new(), Err(failure)),
    };
    let mut warnings = std::mem::take(&mut stored.warnings);
    let credentials = resolve(global, paths, stored);
    warnings.extend(credentials.as_ref().ok().and_then(other_hub_warning));
    (warnings, credentials)
}

/// Warning about a token that is sent to another hub than the one in its file.
fn other_hub_warning(credentials: &Credentials) -> Option<String> {
    let own = credentials.file.as_ref()?.hub_url.as_deref()?;
    let url = &credentials.hub_url;
    let is_own = url::http(own).is_ok_and(|own| own == *url);
    (!is_own).then(|| {
        format!("its token is for {own} and is sent to {url}: set MCPD_TOKEN to a token of that hub")
    })
}

fn resolve(global: &Global, paths: &Paths, stored: Stored) -> Result<Credentials, Failure> {
    let file = paths.credentials.display();
    let given_url = global.hub_url.clone().filter(|url| !url.is_empty()).or_else(|| variable("MCPD_URL"));
    let given_token = variable("MCPD_TOKEN");
    let is_url_given = given_url.is_some();
    let is_token_of_file = given_token.is_none();
    let origin = CredentialsFile { path: paths.credentials.clone(), hub_url: stored.url.clone() };
    let (url, token) = match (given_url.or(stored.url), given_token.or(stored.token)) {
        (Some(url), Some(token)) => (url, token),
        (url, token) => {
            let missing = match (&url, &token) {
                (None, Some(_)) => "no hub",
                (Some(_), None) => "no token",
                _ => "no credentials",
            };
            let verb = if stored.exists { "complete" } else { "make" };
            return Err(Failure::usage(format!(
                "{missing}: {verb} {file} with `virtual-llm login URL`, \
                 or as {{\"mcpdUrl\": \"https://…\", \"token\": \"…\"}}"
            )));
        }
    };
    let source = if is_url_given { "--hub-url or MCPD_URL".to_owned() } else { format!("{file}: mcpdUrl") };
    let url = url::http(&url).map_err(|why| Failure::usage(format!("{source}: {why}")))?;
    // `allowInsecure` of the file holds for the hub of the file only.
    let is_hub_of_file = origin.hub_url.as_deref().is_some_and(|own| url::http(own).as_deref() == Ok(&*url));
    let allow_insecure = global.allow_insecure || stored.allow_insecure && is_hub_of_file;
    check_transport(&url, allow_insecure)?;
    let token = checked_token(&token).ok_or_else(|| {
        Failure::usage(format!(
            "the token in {} is invalid: expected visible ASCII characters",
            if is_token_of_file { file.to_string() } else { "MCPD_TOKEN".to_owned() }
        ))
    })?;
    let stored_proxy = stored.proxy.as_ref().map(Secret::reveal);
    let proxy = proxy::find(global, &paths.credentials, stored_proxy, &url)?;
    Ok(Credentials {
        hub_url: url,
        token,
        file: is_token_of_file.then_some(origin),
        allow_insecure,
        ca_file: global.ca_file.clone(),
        proxy,
    })
}

/// Refuses to send a token over plain http to another machine.
pub(crate) fn check_transport(url: &str, allow_insecure: bool) -> Outcome {
    if allow_insecure || !url::is_plain_and_remote(url) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{url} would get the token over plain http, where others can read it: use https://, \
         or allow it with --allow-insecure"
    )))
}

/// Finds the proxy for a hub at `url` that is not the credentials file's. A file that cannot be used counts as empty.
pub(crate) fn stored_proxy(global: &Global, paths: &Paths, url: &str) -> Result<Option<Proxy>, Failure> {
    let stored = read(paths).unwrap_or_default().proxy;
    proxy::find(global, &paths.credentials, stored.as_ref().map(Secret::reveal), url)
}

/// Writes the credentials file, with the proxy of `--proxy`. Keys of other tools in it are kept.
pub(crate) fn write(paths: &Paths, url: &str, token: &Secret, global: &Global) -> Outcome {
    // A file that is unreadable, or that others could have written, is replaced.
    let before = files::json(&paths.credentials).ok().flatten();
    let before = before.filter(|file| file.file.doubt().is_none()).map(|file| file.value);
    let mut keys = before.and_then(|value| value.as_object().cloned()).unwrap_or_default();
    keys.insert("mcpdUrl".to_owned(), url.into());
    keys.insert("token".to_owned(), token.reveal().into());
    if let Some(proxy) = &global.proxy {
        keys.insert("proxy".to_owned(), proxy.reveal().into());
    }
    if global.allow_insecure && url::is_plain_and_remote(url) {
        keys.insert("allowInsecure".to_owned(), true.into());
    } else {
        keys.remove("allowInsecure");
    }
    files::write_secret(&paths.credentials, &keys.into())
}

/// Puts another token into the credentials file.
pub(crate) async fn replace_token(paths: &Paths, token: &Secret) -> Outcome {
    files::update(&paths.credentials, |value| {
        if let Some(keys) = value.as_object_mut() {
            keys.insert("token".to_owned(), token.reveal().into());
        }
        Ok(())
    })
    .await
}

/// Takes hub and token out of the credentials file, and returns the hub's URL; `None` if there was no token. Other keys are
/// kept, and a file without any is removed.
pub(crate) async fn forget(paths: &Paths) -> Result<Option<String>, Failure> {
    if files::json(&paths.credentials)?.is_none() {
        return Ok(None);
    }
    let taken = files::update(&paths.credentials, |value| {
        let Some(keys) = value.as_object_mut() else { return Ok((None, false)) };
        let token = keys.remove("token");
        let url = keys.remove("mcpdUrl");
        keys.remove("allowInsecure");
        let url = url.and_then(|url| url.as_str().map(str::to_owned)).unwrap_or_default();
        Ok((token.map(|_| url), keys.is_empty()))
    });
    let (url, is_empty) = taken.await?;
    if is_empty {
        std::fs::remove_file(&paths.credentials).map_err(|error| {
            Failure::failed(format!("cannot remove {}: {error}", paths.credentials.display()))
        })?;
    }
    Ok(url)
}

/// Parses a token, without white space around it; `None` unless it consists of visible ASCII characters.
pub(crate) fn checked_token(text: &str) -> Option<Secret> {
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))
        .then(|| Secret::new(token.to_owned()))
}

fn read(paths: &Paths) -> Result<Stored, Failure> {
    let path = &paths.credentials;
    let Some(file) = files::json(path)? else { return Ok(Stored::default()) };
    let mut report = Report::default();
    let mut stored = Stored { exists: true, ..Stored::default() };
    if let Some(doubt) = file.file.doubt() {
        return Err(Failure::usage(format!("cannot use {}: {doubt}", path.display())));
    }
    if file.file.others_can_read() {
        let mode = file.file.mode();
        report.warn("", format!("others can read it (mode {mode:04o}); run `chmod 600 {}`", path.display()));
    }
    if let Some(object) = ObjectReader::new(&file.value, "", keys::CREDENTIALS, &mut report) {
        stored.url = object.text("mcpdUrl", &mut report).map(str::to_owned);
        stored.token = object.text("token", &mut report).map(str::to_owned);
        stored.allow_insecure = object.flag("allowInsecure", &mut report).unwrap_or_default();
        stored.proxy = object.any_text("proxy", &mut report).map(Secret::new);
    }
    stored.warnings = report.warnings.iter().map(ToString::to_string).collect();
    match report.errors.first() {
        None => Ok(stored),
        Some(error) => Err(Failure::usage(format!("{}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A11: white space around a token is cut, and other characters than visible ASCII are refused.
    #[test]
    fn a_token_is_trimmed_and_checked() {
        for text in ["abc", "abc\n", "abc\r\n", "  abc \n"] {
            assert_eq!(checked_token(text).unwrap().reveal(), "abc", "{text:?}");
        }
        for text in ["", "\n", "  ", "\u{feff}abc", "a b", "a\nb", "a\u{0}b", "tökén"] {
            assert!(checked_token(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_token_that_is_sent_to_another_hub_than_its_own_is_a_warning() {
        let warning = |own: Option<&str>, url: &str| {
            let path = std::path::PathBuf::from("/credentials");
            let mut credentials = Credentials::new(url, Secret::new("canary".to_owned()));
            credentials.file = Some(CredentialsFile { path, hub_url: own.map(str::to_owned) });
            other_hub_warning(&credentials)
        };
        let text = warning(Some("https://hub"), "https://other").unwrap();
        assert!(text.contains("is for https://hub and is sent to https://other"), "{text}");
        assert!(!text.contains("canary"));
        for (own, url) in [(Some("https://hub/"), "https://hub"), (None, "https://hub")] {
            assert_eq!(warning(own, url), None);
        }
        let given = Credentials::new("https://other", Secret::new("canary".to_owned()));
        assert_eq!(other_hub_warning(&given), None, "the token is not of a file");
    }

    /// A11: a credentials file that its group or all users can read is a warning.
    #[test]
    fn a_credentials_file_that_others_can_read_is_a_warning() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("credentials");
        std::fs::write(&path, r#"{"mcpdUrl":"https://h","token":"canary"}"#).unwrap();
        let below = |name: &str| home.path().join(name);
        let paths = Paths {
            home: home.path().to_owned(),
            config: below("config.json"),
            credentials: path.clone(),
            session_file: below("provider-session"),
            socket: None,
        };
        for (mode, open) in [(0o644, true), (0o640, true), (0o604, true), (0o600, false), (0o400, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let stored = read(&paths).unwrap();
            let warned = stored.warnings.iter().any(|warning| warning.contains("others can read it"));
            assert_eq!(warned, open, "{mode:o}: {:?}", stored.warnings);
            assert!(!stored.warnings.concat().contains("canary"));
            assert_eq!(stored.token.as_deref(), Some("canary"));
        }
    }
}
