//! The file gives back what it does not need: `SQLite` keeps free pages in it unless it is told to.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, Result};

/// Free pages that are left where they are: a few writes need them again.
const LEFT: i64 = 64;
/// Free pages below which nothing is done: a megabyte. A large file may have a sixteenth.
const FEW: i64 = 256;
/// Pages that are given back at once; others wait for the store meanwhile.
const STEP: i64 = 128;
/// The mode in which pages are given back when that is asked for.
const INCREMENTAL: i64 = 2;
/// A file of an older version that is larger is not rebuilt: it would take minutes.
const LARGEST: u64 = 8 << 30;

/// Makes a file that is empty yet one that can shrink.
pub(super) fn prepare(conn: &Connection) -> Result<()> {
    if number(conn, "page_count")? == 0 {
        conn.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    Ok(())
}

/// Rebuilds a file of an older version, so that it can shrink. Where there is no room for that, it stays as it is.
pub(super) fn rebuild(conn: &Connection, path: &Path) -> Result<()> {
    if number(conn, "auto_vacuum")? == INCREMENTAL {
        return Ok(());
    }
    let size = u64::try_from(number(conn, "page_count")? * number(conn, "page_size")?).unwrap_or(0);
    // A copy, and the log of it.
    let needed = size.saturating_mul(2).saturating_add(64 << 20);
    if size > LARGEST || free(path) < needed {
        log::warn!("store: its file does not shrink: rebuilding it needs {} MiB of free disk", needed >> 20);
        return Ok(());
    }
    if size > 64 << 20 {
        log::info!("store: rebuilding its file, so that it can shrink: {} MiB", size >> 20);
    }
    conn.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    if let Err(error) = conn.execute_batch("VACUUM") {
        log::warn!("store: its file does not shrink: it could not be rebuilt: {error}");
    }
    Ok(())
}

/// Bytes of disk that are free.
#[allow(clippy::useless_conversion, reason = "the types differ from system to system")]
fn free(path: &Path) -> u64 {
    statvfs(path)
        .map_or(0, |disk| u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// Whether so much is free that the file ought to shrink.
pub(super) fn is_worth_it(conn: &Connection) -> Result<bool> {
    let few = FEW.max(number(conn, "page_count")? / 16);
    Ok(number(conn, "freelist_count")? > few && number(conn, "auto_vacuum")? == INCREMENTAL)
}

/// Gives some pages back. Whether there may be more to do.
pub(super) fn some(conn: &Connection) -> Result<bool> {
    let free = number(conn, "freelist_count")?;
    let pages = (free - LEFT).min(STEP);
    if pages <= 0 {
        return Ok(false);
    }
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    // One for each page.
    while rows.next()?.is_some() {}
    Ok(number(conn, "freelist_count")? < free)
}

fn number(conn: &Connection, pragma: &str) -> Result<i64> {
    conn.pragma_query_value(None, pragma, |row| row.get(0))
}
