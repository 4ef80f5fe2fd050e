//! The bearer token. A newer token in the credentials file replaces it.

use std::cell::RefCell;
use std::io;

use awc::http::StatusCode;
use own_files::OwnFile;
use serde::Deserialize;

use super::InvalidHub;
use crate::Secret;
use crate::news::hub_news;
use crate::options::{Credentials, CredentialsFile};

/// Longest credentials file, in bytes.
const MAX_FILE: u64 = 64 << 10;

pub(super) struct Token {
    current: RefCell<Secret>,
    file: Option<CredentialsFile>,
}

impl Token {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, InvalidHub> {
        if !is_token(credentials.token.reveal()) {
            return Err(InvalidHub::Token);
        }
        Ok(Self { current: RefCell::new(credentials.token.clone()), file: credentials.file.clone() })
    }

    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.current.borrow().reveal())
    }

    pub(super) fn current(&self) -> Secret {
        self.current.borrow().clone()
    }

    /// Reads the file again if the hub refused the token `used` with 401 or 429, and returns whether to try again.
    ///
    /// After a 401, the call is retried with any token in the file, because the hub may have been restarting. After a 429, which
    /// limits guesses of tokens, it is retried only with a new token.
    pub(super) async fn read_again(&self, refusal: StatusCode, used: &Secret) -> bool {
        if !matches!(refusal, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
            return false;
        }
        let Some(file) = self.file.clone() else { return false };
        let path = file.path.clone();
        let token = match actix_rt::task::spawn_blocking(move || read(&file)).await {
            Ok(FileToken::Token(token)) => token,
            Ok(FileToken::Untrusted(error)) => {
                hub_news!(warn, "credentials not used", "cannot use {}: {error}", path.display());
                return false;
            }
            Ok(FileToken::OfAnotherHub) => {
                let path = path.display();
                hub_news!(
                    warn,
                    "credentials not used",
                    "{path} names another hub now: its token is not sent to this one; restart to go there"
                );
                return false;
            }
            Ok(FileToken::None) | Err(_) => return false,
        };
        let is_another = token != *used;
        *self.current.borrow_mut() = token;
        is_another || refusal == StatusCode::UNAUTHORIZED
    }

    /// Removes the token from a text of the hub.
    pub(super) fn redact(&self, text: String) -> String {
        let token = self.current.borrow();
        if text.contains(token.reveal()) { text.replace(token.reveal(), "***") } else { text }
    }
}

/// The content of the credentials file.
enum FileToken {
    Token(Secret),
    /// The `mcpdUrl` of the file has changed.
    OfAnotherHub,
    /// Another user could have written the file.
    Untrusted(io::Error),
    None,
}

fn read(file: &CredentialsFile) -> FileToken {
    #[derive(Deserialize)]
    struct File {
        token: Secret,
        #[serde(rename = "mcpdUrl")]
        hub_url: Option<String>,
    }
    let read = OwnFile::open(&file.path).and_then(OwnFile::trusted).and_then(|file| file.read_text(MAX_FILE));
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return FileToken::Untrusted(error),
        Err(_) => return FileToken::None,
    };
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let Ok(File { token, hub_url }) = serde_json::from_str(text) else { return FileToken::None };
    if !is_token(token.reveal()) {
        return FileToken::None;
    }
    let plain = |url: &Option<String>| url.as_deref().map(|url| url.trim().trim_end_matches('/').to_owned());
    if plain(&hub_url) == plain(&file.hub_url) { FileToken::Token(token) } else { FileToken::OfAnotherHub }
}

/// Whether `text` is a header value, and not empty, so that [`Token::redact`] leaves other text alone.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_found_behind_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile { path: folder.path().join("credentials"), hub_url: None };
        for mark in ["", "\u{feff}"] {
            std::fs::write(&file.path, format!(r#"{mark}{{"token":"a-token"}}"#)).unwrap();
            assert!(
                matches!(read(&file), FileToken::Token(token) if token.reveal() == "a-token"),
                "{mark:?}"
            );
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile { path: folder.path().join("credentials"), hub_url: None };
        std::fs::write(&file.path, r#"{"token":"a-token"}"#).unwrap();
        for (mode, is_trusted) in [(0o600, true), (0o602, false)] {
            std::fs::set_permissions(&file.path, Permissions::from_mode(mode)).unwrap();
            let token = read(&file);
            assert_eq!(matches!(token, FileToken::Token(_)), is_trusted, "{mode:o}");
            assert_eq!(matches!(token, FileToken::Untrusted(_)), !is_trusted, "{mode:o}");
        }
    }
}
