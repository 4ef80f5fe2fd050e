//! Incremental vacuum: returns free pages of the file to the disk.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, Result};

/// Free pages that stay in the file for the next writes.
const SPARE_PAGES: i64 = 64;
/// Free pages below which no vacuum starts: 1 MiB. A large file may have a sixteenth of its pages free.
const MIN_FREE_PAGES: i64 = 256;
/// Pages returned in one step; writes wait meanwhile.
const STEP_PAGES: i64 = 128;
/// The value of `auto_vacuum` that `PRAGMA incremental_vacuum` needs.
const INCREMENTAL: i64 = 2;
/// Largest file of an older version, in bytes, that is rebuilt: a larger one would take minutes.
const MAX_REBUILD: u64 = 8 << 30;

/// Enables incremental vacuum on an empty file.
pub(super) fn enable_on_empty(conn: &Connection) -> Result<()> {
    if number(conn, "page_count")? == 0 {
        conn.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    }
    Ok(())
}

/// Enables incremental vacuum on a file of an older version by rebuilding it, if the disk has room for that.
pub(super) fn enable_by_rebuild(conn: &Connection, path: &Path) -> Result<()> {
    if number(conn, "auto_vacuum")? == INCREMENTAL {
        return Ok(());
    }
    let size = u64::try_from(number(conn, "page_count")? * number(conn, "page_size")?).unwrap_or(0);
    // The copy and its WAL.
    let needed = size.saturating_mul(2).saturating_add(64 << 20);
    if size > MAX_REBUILD || free_disk(path) < needed {
        log::warn!("store: the file will not shrink: rebuilding it needs {} MiB of free disk", needed >> 20);
        return Ok(());
    }
    if size > 64 << 20 {
        log::info!("store: rebuilding the file ({} MiB) so that it can shrink", size >> 20);
    }
    conn.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    if let Err(error) = conn.execute_batch("VACUUM") {
        log::warn!("store: the file will not shrink: it could not be rebuilt: {error}");
    }
    Ok(())
}

/// Free bytes on the disk of `path`.
#[allow(clippy::useless_conversion, reason = "the types differ from system to system")]
fn free_disk(path: &Path) -> u64 {
    statvfs(path)
        .map_or(0, |disk| u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())))
}

/// Whether the file has enough free pages for a vacuum.
pub(super) fn is_due(conn: &Connection) -> Result<bool> {
    let min = MIN_FREE_PAGES.max(number(conn, "page_count")? / 16);
    Ok(number(conn, "freelist_count")? > min && number(conn, "auto_vacuum")? == INCREMENTAL)
}

/// Returns up to [`STEP_PAGES`] pages to the disk. `true` if it returned any.
pub(super) fn step(conn: &Connection) -> Result<bool> {
    let free = number(conn, "freelist_count")?;
    let pages = (free - SPARE_PAGES).min(STEP_PAGES);
    if pages <= 0 {
        return Ok(false);
    }
    let mut statement = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = statement.query([])?;
    // Each row is one page.
    while rows.next()?.is_some() {}
    Ok(number(conn, "freelist_count")? < free)
}

fn number(conn: &Connection, pragma: &str) -> Result<i64> {
    conn.pragma_query_value(None, pragma, |row| row.get(0))
}
