//! Values and rows of PostgreSQL.

use std::error::Error;

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::store::StoreError;
use crate::store::columns::{StoredRow, StoredValue, Value};

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Bool(value) => value.to_sql(kind, out),
            // The length of a part of a text.
            Self::Integer(number) if *kind == Type::INT4 => i32::try_from(*number)?.to_sql(kind, out),
            Self::Integer(number) => number.to_sql(kind, out),
            // A text in PostgreSQL has no NUL.
            Self::Text(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::BOOL, Type::INT4, Type::INT8, Type::TEXT, Type::BYTEA].contains(kind)
    }

    to_sql_checked!();
}

impl StoredRow for Row {
    type Error = StoreError;

    fn value(&self, column: &str) -> Result<StoredValue, StoreError> {
        let index = self.columns().iter().position(|known| known.name() == column);
        let index = index.ok_or_else(|| self.unreadable(column))?;
        let kind = self.columns()[index].type_();
        let value = if *kind == Type::BOOL {
            self.try_get::<_, Option<bool>>(index).map(|value| value.map(StoredValue::Bool))
        } else if *kind == Type::INT4 {
            self.try_get::<_, Option<i32>>(index).map(|value| value.map(|n| StoredValue::Integer(n.into())))
        } else if *kind == Type::INT8 {
            self.try_get::<_, Option<i64>>(index).map(|value| value.map(StoredValue::Integer))
        } else if *kind == Type::BYTEA {
            self.try_get::<_, Option<Vec<u8>>>(index).map(|value| value.map(StoredValue::Bytes))
        } else {
            self.try_get::<_, Option<String>>(index).map(|value| value.map(StoredValue::Text))
        };
        Ok(value.map_err(|_| self.unreadable(column))?.unwrap_or(StoredValue::Null))
    }

    fn unreadable(&self, column: &str) -> StoreError {
        StoreError::Damaged(format!("unreadable column {column}"))
    }
}
