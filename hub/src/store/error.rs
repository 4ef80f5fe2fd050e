//! Errors of a store.

use std::path::{Path, PathBuf};

/// An error of the store. Its text is for the log and contains no bodies.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
pub enum StoreError {
    /// The disk is full, the file is locked, or another error that may pass. Callers get 503.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The open tasks of a new task's owner take this many bytes, and the new one would exceed the quota.
    #[error("the open tasks of a user take {0} bytes")]
    OverQuota(u64),
    /// A newer version wrote the file.
    #[error(
        "{file} has schema version {found}, this program knows {known}: use the newer version, or another directory",
        file = .file.display()
    )]
    Newer { file: PathBuf, found: i64, known: i64 },
    /// The file is damaged, or no database.
    #[error("the store is damaged: {0}; restore a backup, or move the file away to start anew")]
    Damaged(String),
    /// Another hub holds the directory's lock.
    #[error("another hub already uses {dir}: stop it, or give this one its own --data-dir", dir = .0.display())]
    InUse(PathBuf),
    /// The database of a cluster cannot be used at all.
    #[error("cannot use the database: {0}")]
    Database(String),
    /// The network between the hubs of a cluster cannot be used at all.
    #[error("cannot use the network between hubs: {0}")]
    Network(String),
    /// A file or the directory cannot be created or read.
    #[error("cannot use {path}: {cause}", path = .path.display())]
    Unusable { path: PathBuf, cause: String },
}

impl StoreError {
    /// Adds `path` and advice to an error at start, where no retry follows.
    pub(crate) fn at_start(self, path: &Path) -> Self {
        let Self::Unavailable(why) = self else { return self };
        let cause = if why.contains("full") {
            "the disk is full; free some space, or choose another folder with --data-dir".to_owned()
        } else {
            why
        };
        Self::Unusable { path: path.to_owned(), cause }
    }
}

/// Translates an error of `SQLite`. Its texts name tables and columns, never values.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};

        let text = error.to_string();
        match error {
            E::SqliteFailure(cause, _) if matches!(cause.code, DatabaseCorrupt | NotADatabase) => {
                Self::Damaged(text)
            }
            E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => {
                Self::Damaged(text)
            }
            _ => Self::Unavailable(text),
        }
    }
}
