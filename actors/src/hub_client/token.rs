//! The bearer token, and where a newer one may be found.

use std::cell::RefCell;
use std::io;

use awc::http::StatusCode;
use own_files::OwnFile;
use serde::Deserialize;

use super::InvalidHub;
use crate::Secret;
use crate::news::news;
use crate::options::{Credentials, CredentialsFile};

/// A credentials file has two short texts; more than this is another file.
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

    /// The value of the `Authorization` header.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.current.borrow().reveal())
    }

    /// The token itself.
    pub(super) fn current(&self) -> Secret {
        self.current.borrow().clone()
    }

    /// Reads the file again after a refusal of `used` that may be about the token. Whether another try is worth it: after
    /// a 401 if there is a file with a token in it, be it a newer one or the same (a hub may have been restarting); after
    /// a 429, which an old token gets where others guess, only if it is another one.
    pub(super) async fn read_again(&self, refusal: StatusCode, used: &Secret) -> bool {
        if !matches!(refusal, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
            return false;
        }
        let Some(file) = self.file.clone() else { return false };
        let path = file.path.clone();
        let token = match actix_rt::task::spawn_blocking(move || read(&file)).await {
            Ok(Read::Token(token)) => token,
            Ok(Read::Doubted(why)) => {
                news!(warn, "credentials not used", "the hub", "cannot use {}: {why}", path.display());
                return false;
            }
            Ok(Read::OfAnotherHub) => {
                let path = path.display();
                news!(
                    warn,
                    "credentials not used",
                    "the hub",
                    "{path} names another hub now: its token is not sent to this one; restart to go there"
                );
                return false;
            }
            Ok(Read::Nothing) | Err(_) => return false,
        };
        let is_another = token != *used;
        *self.current.borrow_mut() = token;
        is_another || refusal == StatusCode::UNAUTHORIZED
    }

    /// A hub that quotes the token in its refusal does not get it into our logs.
    pub(super) fn redact(&self, text: String) -> String {
        let token = self.current.borrow();
        if text.contains(token.reveal()) { text.replace(token.reveal(), "***") } else { text }
    }
}

/// What the file has.
enum Read {
    Token(Secret),
    /// A token for whoever its `mcpdUrl` names now.
    OfAnotherHub,
    /// Something, and others could have written it.
    Doubted(io::Error),
    Nothing,
}

fn read(file: &CredentialsFile) -> Read {
    #[derive(Deserialize)]
    struct File {
        token: Secret,
        #[serde(rename = "mcpdUrl")]
        hub_url: Option<String>,
    }
    let read = OwnFile::open(&file.path).and_then(OwnFile::trusted).and_then(|file| file.read_text(MAX_FILE));
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Read::Doubted(error),
        Err(_) => return Read::Nothing,
    };
    // Editors on Windows put a byte order mark in front.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let Ok(File { token, hub_url }) = serde_json::from_str(text) else { return Read::Nothing };
    if !is_token(token.reveal()) {
        return Read::Nothing;
    }
    let plain = |url: &Option<String>| url.as_deref().map(|url| url.trim().trim_end_matches('/').to_owned());
    if plain(&hub_url) == plain(&file.hub_url) { Read::Token(token) } else { Read::OfAnotherHub }
}

/// What can stand in a header line, and is long enough that redacting it leaves other text alone.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_behind_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let file = CredentialsFile { path: folder.path().join("credentials"), hub_url: None };
        for mark in ["", "\u{feff}"] {
            std::fs::write(&file.path, format!(r#"{mark}{{"token":"a-token"}}"#)).unwrap();
            assert!(matches!(read(&file), Read::Token(token) if token.reveal() == "a-token"), "{mark:?}");
        }
    }
}
