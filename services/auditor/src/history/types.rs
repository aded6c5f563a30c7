//! Values as Postgres has them and the client library has not.

use std::error::Error as StdError;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::chain::Hash;

/// Unix microseconds, as `timestamptz` keeps them: exact, and also where the calendar ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

/// From 1970 to where Postgres begins to count.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

impl Micros {
    /// If the calendar has this time.
    pub(crate) fn of_ms(ms: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(ms).is_ok().then(|| Self(ms.saturating_mul(1_000)))
    }

    /// If the calendar has this time.
    pub(crate) fn of_seconds(seconds: i64) -> Option<Self> {
        jiff::Timestamp::from_second(seconds).is_ok().then(|| Self(seconds.saturating_mul(1_000_000)))
    }

    /// Its year and month, in UTC.
    pub(crate) fn month(self) -> Option<(i16, i8)> {
        let at = jiff::Timestamp::from_microsecond(self.0).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        Some((at.year(), at.month()))
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_i64(self.0.saturating_sub(POSTGRES_EPOCH_US));
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(bytes.try_into()?).saturating_add(POSTGRES_EPOCH_US)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// A transaction, as `xid8` keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xid(pub u64);

impl ToSql for Xid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_u64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Xid {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(u64::from_be_bytes(bytes.try_into()?)))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::XID8
    }
}

/// A hash, as `bytea` keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Bytes32(pub Hash);

impl<'a> FromSql<'a> for Bytes32 {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(bytes.try_into().map_err(|_| format!("{} bytes are no hash", bytes.len()))?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::BYTEA
    }
}
