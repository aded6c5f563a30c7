//! How the battery of a lock was.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use latchline_shared::kit::api::view;
use serde::Serialize;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient};
use utoipa::ToSchema;

/// How a battery was in one hour.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct BatteryHour {
    /// The hour's beginning.
    #[schema(format = DateTime)]
    pub at: String,
    /// Percent: the median of the hour's readings.
    pub percent: f64,
}

/// The hours that begin within a time.
pub async fn read(
    client: &(impl GenericClient + Sync),
    client_id: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<BatteryHour>, Error> {
    let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
    let select =
        "select day, hours from battery_day where client_id = $1 and day between $2 and $3 order by day";
    let rows = client
        .query_typed(select, &[(&client_id, Type::TEXT), (&day(from), Type::DATE), (&day(to), Type::DATE)])
        .await?;
    let mut hours = Vec::new();
    for row in rows {
        hours_of(row.try_get(0)?, row.try_get(1)?, from..to, &mut hours);
    }
    Ok(hours)
}

fn hours_of(
    day: Date,
    tenths: Vec<Option<i16>>,
    within: std::ops::Range<Timestamp>,
    hours: &mut Vec<BatteryHour>,
) {
    let Ok(midnight) = day.to_zoned(TimeZone::UTC) else { return };
    for (hour, tenths) in (0..24).zip(tenths) {
        let at = midnight.timestamp() + SignedDuration::from_hours(hour);
        if let Some(tenths) = tenths.filter(|_| within.contains(&at)) {
            hours.push(BatteryHour { at: view::time(at), percent: f64::from(tenths) / 10.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_counts_if_it_begins_within_the_time() {
        let mut tenths = vec![None; 24];
        (tenths[0], tenths[1], tenths[23]) = (Some(1000), Some(999), Some(201));
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        for (from, to, expected) in [
            ("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", vec![100.0, 99.9, 20.1]),
            ("2026-01-02T00:00:01Z", "2026-01-02T23:00:00Z", vec![99.9]),
            ("2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", vec![]),
        ] {
            let mut hours = Vec::new();
            hours_of(jiff::civil::date(2026, 1, 2), tenths.clone(), time(from)..time(to), &mut hours);
            let percents: Vec<_> = hours.iter().map(|hour| hour.percent).collect();
            assert_eq!(percents, expected, "{from} {to}");
        }
    }
}
