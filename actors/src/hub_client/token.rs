//! The bearer token, and where a newer one may be found.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use awc::http::StatusCode;
use own_files::OwnFile;
use serde::Deserialize;

use super::InvalidHub;
use crate::Secret;
use crate::options::Credentials;

/// A credentials file has two short texts; more than this is another file.
const MAX_FILE: u64 = 64 << 10;

pub(super) struct Token {
    current: RefCell<Secret>,
    file: Option<PathBuf>,
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
        let read = actix_rt::task::spawn_blocking(move || read(&file)).await;
        let Ok(Some(token)) = read else { return false };
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

fn read(file: &Path) -> Option<Secret> {
    #[derive(Deserialize)]
    struct File {
        token: Secret,
    }
    let read = OwnFile::open(file).and_then(OwnFile::trusted).and_then(|file| file.read_text(MAX_FILE));
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            log::warn!("cannot use {}: {error}", file.display());
            return None;
        }
        Err(_) => return None,
    };
    let File { token } = serde_json::from_str(&text).ok()?;
    is_token(token.reveal()).then_some(token)
}

/// What can stand in a header line, and is long enough that redacting it leaves other text alone.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
