//! Reading and inserting rows, and conversions between column values and fields.

use rusqlite::types::Type;
use rusqlite::{Connection, Result, Row, ToSql};
use serde_json::value::RawValue;
use wire::row::Timestamp;

use crate::model::TokenCounts;

/// Reads every row that `sql` selects.
pub(super) fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// A column and its value.
pub(super) type Column<'a> = (&'a str, &'a dyn ToSql);

/// Inserts a row. `conflict` is an `ON CONFLICT` clause, or empty.
pub(super) fn insert(conn: &Connection, table: &str, columns: &[Column<'_>], conflict: &str) -> Result<()> {
    let (names, values): (Vec<_>, Vec<_>) = columns.iter().copied().unzip();
    let parameters: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let sql =
        format!("INSERT INTO {table} ({}) VALUES ({}) {conflict}", names.join(", "), parameters.join(", "));
    conn.prepare_cached(&sql)?.execute(values.as_slice()).map(drop)
}

/// Converts to `SQLite`'s signed integers. A count from a backend's `usage` may be any `u64`.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn maybe_count(row: &Row<'_>, column: &str) -> Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|count| u64::try_from(count).unwrap_or(0)))
}

/// The token counts; `None` if none were recorded.
pub(super) fn maybe_tokens(row: &Row<'_>) -> Result<Option<TokenCounts>> {
    let Some(is_counted) = row.get("counted")? else { return Ok(None) };
    let [input, cached, output] =
        ["input_tokens", "cached_tokens", "output_tokens"].map(|column| maybe_count(row, column));
    Ok(Some(TokenCounts { input: input?, cached: cached?, output: output?, is_counted }))
}

pub(super) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    row.get(column).map(Timestamp)
}

pub(super) fn maybe_time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

pub(super) fn parsed<T>(row: &Row<'_>, column: &str, parse: fn(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| unreadable(row, column))
}

pub(super) fn maybe_parsed<T>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parse(&text).ok_or_else(|| unreadable(row, column))).transpose()
}

pub(super) fn maybe_json(row: &Row<'_>, column: &str) -> Result<Option<Box<RawValue>>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| RawValue::from_string(text).map_err(|_| unreadable(row, column))).transpose()
}

fn unreadable(row: &Row<'_>, column: &str) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, format!("unreadable column {column}").into())
}
