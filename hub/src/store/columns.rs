//! Columns of records: their values, written and read in the same way in `SQLite` and in PostgreSQL.
//!
//! The conversions of all kinds of values are in one place: hence the length of this file.

use std::borrow::Cow;

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Result, Row, ToSql, params_from_iter};
use serde_json::value::RawValue;
use wire::row::Timestamp;

use crate::model::TokenCounts;

/// A value to write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
}

/// A column and its value.
pub(super) type Column<'a> = (&'static str, Value<'a>);

/// Columns of a record: `columns!["id" => &llm.id, …]`.
macro_rules! columns {
    ($($name:literal => $value:expr),* $(,)?) => { vec![$(($name, crate::store::columns::Value::from($value))),*] };
}
pub(super) use columns;

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text.into())
    }
}

impl<'a> From<&'a Option<String>> for Value<'a> {
    fn from(text: &'a Option<String>) -> Self {
        Self::from(text.as_deref())
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u16> for Value<'_> {
    fn from(number: u16) -> Self {
        Self::Integer(number.into())
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

/// Databases have signed integers. A count from a backend's `usage` may be any `u64`.
impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(time: Timestamp) -> Self {
        Self::Integer(time.0)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// SQL that inserts a row. `mark` is what numbered parameters begin with, `conflict` an `ON CONFLICT` clause, or empty.
pub(super) fn insert_sql(table: &str, columns: &[Column<'_>], mark: char, conflict: &str) -> String {
    let names: Vec<_> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let parameters: Vec<_> = (1..=columns.len()).map(|n| format!("{mark}{n}")).collect();
    format!("INSERT INTO {table} ({}) VALUES ({}) {conflict}", names.join(", "), parameters.join(", "))
}

/// As [`insert_sql`], or updates the row with the same `key`. Updating in place, unlike `INSERT OR REPLACE`, fails when another
/// row has the same name.
pub(super) fn upsert_sql(table: &str, columns: &[Column<'_>], mark: char, key: &[&str]) -> String {
    let others = columns.iter().map(|(name, _)| name).filter(|name| !key.contains(name));
    let updates: Vec<_> = others.map(|name| format!("\"{name}\" = excluded.\"{name}\"")).collect();
    let key: Vec<_> = key.iter().map(|name| format!("\"{name}\"")).collect();
    let conflict = format!("ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), updates.join(", "));
    insert_sql(table, columns, mark, &conflict)
}

/// The values of `columns`.
pub(super) fn values(columns: Vec<Column<'_>>) -> Vec<Value<'_>> {
    columns.into_iter().map(|(_, value)| value).collect()
}

/// A value that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StoredValue {
    Null,
    Bool(bool),
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl StoredValue {
    /// The value, to write it.
    pub(super) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Integer(number) => Value::Integer(*number),
            Self::Text(text) => text.into(),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

/// The type of a field.
pub(super) trait FromStored: Sized {
    /// `None` if the stored value has another type.
    fn from_stored(value: StoredValue) -> Option<Self>;
}

impl FromStored for String {
    fn from_stored(value: StoredValue) -> Option<Self> {
        match value {
            StoredValue::Text(text) => Some(text),
            StoredValue::Bytes(bytes) => Self::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl FromStored for Vec<u8> {
    fn from_stored(value: StoredValue) -> Option<Self> {
        if let StoredValue::Bytes(bytes) = value { Some(bytes) } else { None }
    }
}

impl FromStored for bool {
    fn from_stored(value: StoredValue) -> Option<Self> {
        match value {
            StoredValue::Bool(value) => Some(value),
            StoredValue::Integer(number) => Some(number != 0),
            _ => None,
        }
    }
}

impl FromStored for i64 {
    fn from_stored(value: StoredValue) -> Option<Self> {
        if let StoredValue::Integer(number) = value { Some(number) } else { None }
    }
}

impl FromStored for u16 {
    fn from_stored(value: StoredValue) -> Option<Self> {
        i64::from_stored(value)?.try_into().ok()
    }
}

impl FromStored for u32 {
    fn from_stored(value: StoredValue) -> Option<Self> {
        i64::from_stored(value)?.try_into().ok()
    }
}

/// A count, which is never negative.
impl FromStored for u64 {
    fn from_stored(value: StoredValue) -> Option<Self> {
        Some(i64::from_stored(value)?.try_into().unwrap_or(0))
    }
}

impl FromStored for [u8; 32] {
    fn from_stored(value: StoredValue) -> Option<Self> {
        if let StoredValue::Bytes(bytes) = value { bytes.try_into().ok() } else { None }
    }
}

impl FromStored for Timestamp {
    fn from_stored(value: StoredValue) -> Option<Self> {
        i64::from_stored(value).map(Self)
    }
}

impl FromStored for Box<RawValue> {
    fn from_stored(value: StoredValue) -> Option<Self> {
        RawValue::from_string(String::from_stored(value)?).ok()
    }
}

impl<T: FromStored> FromStored for Option<T> {
    fn from_stored(value: StoredValue) -> Option<Self> {
        match value {
            StoredValue::Null => Some(None),
            value => T::from_stored(value).map(Some),
        }
    }
}

/// A row that was read.
pub(super) trait StoredRow {
    type Error;

    /// Reads the value of a column.
    fn value(&self, column: &str) -> Result<StoredValue, Self::Error>;

    /// The error for a value that this program cannot read.
    fn unreadable(&self, column: &str) -> Self::Error;

    /// Reads a field.
    fn field<T: FromStored>(&self, column: &str) -> Result<T, Self::Error> {
        T::from_stored(self.value(column)?).ok_or_else(|| self.unreadable(column))
    }

    /// Reads the token counts; `None` if none were recorded.
    fn tokens(&self) -> Result<Option<TokenCounts>, Self::Error> {
        let Some(is_counted) = self.field("counted")? else { return Ok(None) };
        Ok(Some(TokenCounts {
            input: self.field("input_tokens")?,
            cached: self.field("cached_tokens")?,
            output: self.field("output_tokens")?,
            is_counted,
        }))
    }

    /// Reads a field that is stored as a word.
    fn parsed<T>(&self, column: &str, parse: fn(&str) -> Option<T>) -> Result<T, Self::Error> {
        let text: String = self.field(column)?;
        parse(&text).ok_or_else(|| self.unreadable(column))
    }

    /// As [`parsed`](Self::parsed), of a field that may be missing.
    fn maybe_parsed<T>(&self, column: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, Self::Error> {
        let text: Option<String> = self.field(column)?;
        text.map(|text| parse(&text).ok_or_else(|| self.unreadable(column))).transpose()
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Bool(value) => ValueRef::Integer((*value).into()),
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl StoredRow for Row<'_> {
    type Error = rusqlite::Error;

    fn value(&self, column: &str) -> Result<StoredValue> {
        Ok(match self.get_ref(column)? {
            ValueRef::Null => StoredValue::Null,
            ValueRef::Integer(number) => StoredValue::Integer(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => StoredValue::Text(text.to_owned()),
                Err(_) => return Err(self.unreadable(column)),
            },
            ValueRef::Blob(bytes) => StoredValue::Bytes(bytes.to_owned()),
            ValueRef::Real(_) => return Err(self.unreadable(column)),
        })
    }

    fn unreadable(&self, column: &str) -> rusqlite::Error {
        let index = self.as_ref().column_index(column).unwrap_or(0);
        rusqlite::Error::FromSqlConversionFailure(
            index,
            Type::Text,
            format!("unreadable column {column}").into(),
        )
    }
}

/// Reads every row that `sql` selects from `SQLite`.
pub(super) fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// As [`all`], of SQL with its values.
pub(super) fn selected<T>(
    conn: &Connection,
    (sql, values): (String, Vec<StoredValue>),
    read: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    all(conn, &sql, params_from_iter(values.iter().map(StoredValue::as_value)), read)
}
