//! Batteries by the hour: written by lanes as hours end, read for forecasts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use latchline_shared::fault::Fault;
use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::{ROWS_MAX, failed};

const HOURS: usize = 24;
/// The hours of some days that a transaction writes: by lock and day (since 1970), tenths of a
/// percent.
pub type Days = BTreeMap<(Arc<str>, i32), [Option<i16>; HOURS]>;

/// Medians of a battery from old to new: hours since 1970, and percent.
pub type Series = Vec<(i64, f32)>;

const SAVE: &str = "insert into battery_day as battery (client_id, day, hours)
    select client_id, day, hours::smallint[] from unnest($1, $2, $3) as row (client_id, day, hours)
    on conflict (client_id, day) do update set hours = (
        select array_agg(coalesce(later, earlier) order by hour)
        from unnest(excluded.hours, battery.hours) with ordinality as pair (later, earlier, hour))";

const LOAD: &str = "select battery.client_id, battery.day, battery.hours
    from unnest($1, $2) as wanted (client_id, first)
    join battery_day battery on battery.client_id = wanted.client_id and battery.day >= wanted.first
    order by battery.client_id, battery.day";

/// Writes hours into their days, beside those that are there.
pub async fn save(transaction: &Transaction<'_>, days: &Days) -> Result<(), Fault> {
    let rows: Vec<_> = days.iter().collect();
    for rows in rows.chunks(ROWS_MAX) {
        let locks: Vec<&str> = rows.iter().map(|((lock, _), _)| &**lock).collect();
        let of: Vec<Date> = rows.iter().map(|((_, day), _)| date(*day)).collect();
        let hours: Vec<String> = rows.iter().map(|(_, hours)| array(*hours)).collect();
        transaction
            .execute_typed(
                SAVE,
                &[(&locks, Type::TEXT_ARRAY), (&of, Type::DATE_ARRAY), (&hours, Type::TEXT_ARRAY)],
            )
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// The batteries of these locks, each from the day (since 1970) on that stands beside it.
pub async fn load(
    transaction: &Transaction<'_>,
    wanted: &BTreeMap<&str, i32>,
) -> Result<HashMap<Box<str>, Series>, Fault> {
    let mut known: HashMap<Box<str>, Series> = HashMap::new();
    if wanted.is_empty() {
        return Ok(known);
    }
    let locks: Vec<&str> = wanted.keys().copied().collect();
    let first: Vec<Date> = wanted.values().map(|day| date(*day)).collect();
    let rows = transaction
        .query_typed(LOAD, &[(&locks, Type::TEXT_ARRAY), (&first, Type::DATE_ARRAY)])
        .await
        .map_err(failed)?;
    for row in rows {
        let (lock, day): (&str, Date) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let hours: Vec<Option<i16>> = row.try_get(2).map_err(failed)?;
        let midnight = midnight(day);
        let known = known.entry(lock.into()).or_default();
        let readings = (0..).zip(hours).filter_map(|(hour, tenths)| Some((hour, tenths?)));
        known.extend(readings.map(|(hour, tenths)| (midnight + hour, f32::from(tenths) / 10.0)));
    }
    Ok(known)
}

/// Days since 1970 of this time.
pub fn day_of(ms: i64) -> i32 {
    i32::try_from(ms.div_euclid(86_400_000)).unwrap_or(i32::MAX)
}

fn date(day: i32) -> Date {
    let first = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC).date();
    first.saturating_add(day.days())
}

/// Hours since 1970 of the beginning of the day.
fn midnight(day: Date) -> i64 {
    let at = day.to_zoned(TimeZone::UTC).map_or(0, |at| at.timestamp().as_second());
    at.div_euclid(3_600)
}

/// As Postgres writes an array.
fn array(hours: &[Option<i16>]) -> String {
    let words = hours.iter().map(|tenths| tenths.map_or("NULL".to_owned(), |tenths| tenths.to_string()));
    format!("{{{}}}", words.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::tests::database;

    fn days(list: &[(&str, i32, usize, i16)]) -> Days {
        let mut days = Days::new();
        for (lock, day, hour, tenths) in list {
            days.entry(((*lock).into(), *day)).or_default()[*hour] = Some(*tenths);
        }
        days
    }

    #[tokio::test]
    async fn hours_are_written_beside_each_other() {
        let database = database().await;
        let mut client = database.pool.get().await.unwrap();
        let transaction = client.transaction().await.unwrap();
        save(&transaction, &days(&[("a", 20_000, 0, 900), ("a", 20_000, 2, 890), ("b", 20_000, 23, 1_000)]))
            .await
            .unwrap();
        save(&transaction, &days(&[("a", 20_000, 2, 885), ("a", 20_000, 23, 880), ("a", 20_001, 1, 0)]))
            .await
            .unwrap();
        let wanted = BTreeMap::from([("a", 20_000), ("c", 20_000), ("b", 20_001)]);
        let known = load(&transaction, &wanted).await.unwrap();
        let midnight = 20_000 * 24;
        let expected = [(midnight, 90.0), (midnight + 2, 88.5), (midnight + 23, 88.0), (midnight + 25, 0.0)];
        assert_eq!(known, HashMap::from([("a".into(), expected.to_vec())]));
    }

    #[test]
    fn a_day_begins_at_midnight() {
        for (ms, day) in [(0, 0), (86_399_999, 0), (86_400_000, 1), (-1, -1)] {
            assert_eq!(day_of(ms), day);
        }
        assert_eq!((date(20_000).to_string(), midnight(date(20_000))), ("2024-10-04".to_owned(), 480_000));
    }
}
