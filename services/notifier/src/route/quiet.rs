//! Quiet hours: from one time of day to another in the user's time zone, whatever the clocks do there.
//!
//! A period begins and ends at instants, not at what clocks show, so that an hour that comes twice ends
//! it once. A time that does not exist on a day (clocks jump over it) is the end of the gap; of a time
//! that comes twice, the first begins a period and the last one ends it: nobody is disturbed who may
//! have meant to be left alone.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

use crate::directory::recipients::Quiet;

/// When the quiet hours end in which `at` is; `None` if it is not in any.
pub(super) fn end(quiet: Quiet, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    if quiet.from == quiet.to {
        return None;
    }
    let today = zone.to_datetime(at).date();
    // The period may have begun the day before. A day that a zone has left out altogether gets an end
    // in the gap.
    [today.yesterday().ok()?, today].into_iter().find_map(|day| {
        let last = if quiet.from < quiet.to { day } else { day.tomorrow().ok()? };
        let from = instant(zone, day.to_datetime(quiet.from), Fold::First)?;
        let to = instant(zone, last.to_datetime(quiet.to), Fold::Last)?;
        (from <= at && at < to).then_some(to)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fold {
    First,
    Last,
}

/// When clocks there show this time.
fn instant(zone: &TimeZone, time: DateTime, fold: Fold) -> Option<Timestamp> {
    let of = |offset: jiff::tz::Offset| offset.to_timestamp(time).ok();
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => of(offset),
        AmbiguousOffset::Fold { before, after } => of(if fold == Fold::First { before } else { after }),
        // With the offset of afterwards, the time is before the jump.
        AmbiguousOffset::Gap { after, .. } => Some(zone.following(of(after)?).next()?.timestamp()),
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use jiff::civil::Time;
    use proptest::prelude::*;

    use super::*;

    fn quiet(hours: &str) -> Quiet {
        let (from, to) = hours.split_once('-').unwrap();
        Quiet { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn check(zone: &str, table: &[(&str, &str, Option<&str>)]) {
        let zone = TimeZone::get(zone).unwrap();
        for (hours, at, expected) in table {
            let at: Timestamp = at.parse().unwrap();
            let expected = expected.map(|end| end.parse::<Timestamp>().unwrap());
            assert_eq!(end(quiet(hours), &zone, at), expected, "{hours} at {at}");
        }
    }

    #[test]
    fn a_night_has_a_beginning_and_an_end() {
        let end = Some("2026-07-13T07:00+09:00");
        check(
            "Asia/Tokyo",
            &[
                ("22:00-07:00", "2026-07-12T21:59:59.999+09:00", None),
                ("22:00-07:00", "2026-07-12T22:00+09:00", end),
                ("22:00-07:00", "2026-07-12T23:59:59+09:00", end),
                ("22:00-07:00", "2026-07-13T00:00+09:00", end),
                ("22:00-07:00", "2026-07-13T06:59:59.999+09:00", end),
                ("22:00-07:00", "2026-07-13T07:00+09:00", None),
                // By day, and what is no time at all.
                ("12:00-13:00", "2026-07-12T12:30+09:00", Some("2026-07-12T13:00+09:00")),
                ("12:00-13:00", "2026-07-12T13:00+09:00", None),
                ("12:00-12:00", "2026-07-12T12:00+09:00", None),
                ("00:00-12:00", "2026-07-12T00:00+09:00", Some("2026-07-12T12:00+09:00")),
                ("12:00-00:00", "2026-07-12T12:00+09:00", Some("2026-07-13T00:00+09:00")),
                // Clocks of Tokyo are never changed, not even when those of Berlin are.
                ("02:30-03:30", "2026-03-29T02:30+09:00", Some("2026-03-29T03:30+09:00")),
                ("22:00-02:30", "2026-10-25T01:00+09:00", Some("2026-10-25T02:30+09:00")),
            ],
        );
    }

    #[test]
    fn the_night_in_which_clocks_jump_ahead_is_shorter() {
        // 02:00 +01:00 is 03:00 +02:00.
        check(
            "Europe/Berlin",
            &[
                ("22:00-07:00", "2026-03-28T22:00+01:00", Some("2026-03-29T07:00+02:00")),
                ("22:00-02:00", "2026-03-29T01:59+01:00", Some("2026-03-29T03:00+02:00")),
                ("22:00-02:30", "2026-03-29T01:59+01:00", Some("2026-03-29T03:00+02:00")),
                ("22:00-02:30", "2026-03-29T03:00+02:00", None),
                ("22:00-03:00", "2026-03-29T01:59+01:00", Some("2026-03-29T03:00+02:00")),
                // Begins in the gap, or is all in it.
                ("02:30-07:00", "2026-03-29T01:59+01:00", None),
                ("02:30-07:00", "2026-03-29T03:00+02:00", Some("2026-03-29T07:00+02:00")),
                ("02:10-02:50", "2026-03-29T01:59+01:00", None),
                ("02:10-02:50", "2026-03-29T03:00+02:00", None),
                // The day after is as any other.
                ("22:00-02:30", "2026-03-30T02:29+02:00", Some("2026-03-30T02:30+02:00")),
            ],
        );
    }

    #[test]
    fn the_night_in_which_clocks_are_put_back_is_longer() {
        // 03:00 +02:00 is 02:00 +01:00.
        let end = Some("2026-10-25T02:30+01:00");
        check(
            "Europe/Berlin",
            &[
                ("22:00-07:00", "2026-10-24T22:00+02:00", Some("2026-10-25T07:00+01:00")),
                ("22:00-02:30", "2026-10-25T02:29+02:00", end),
                ("22:00-02:30", "2026-10-25T02:45+02:00", end),
                ("22:00-02:30", "2026-10-25T02:10+01:00", end),
                ("22:00-02:30", "2026-10-25T02:30+01:00", None),
                ("22:00-02:30", "2026-10-25T02:45+01:00", None),
                // Begins in the hour that comes twice: in the first, and only once.
                ("02:30-07:00", "2026-10-25T02:29+02:00", None),
                ("02:30-07:00", "2026-10-25T02:30+02:00", Some("2026-10-25T07:00+01:00")),
                ("02:30-07:00", "2026-10-25T02:10+01:00", Some("2026-10-25T07:00+01:00")),
                // Begins and ends in it.
                ("02:15-02:45", "2026-10-25T02:50+02:00", Some("2026-10-25T02:45+01:00")),
            ],
        );
    }

    #[test]
    fn clocks_that_jump_at_midnight_have_a_midnight() {
        // Beirut went from 2026-03-28 24:00 +02:00 to 01:00 +03:00.
        check(
            "Asia/Beirut",
            &[
                ("22:00-00:30", "2026-03-28T23:00+02:00", Some("2026-03-29T01:00+03:00")),
                ("00:00-06:00", "2026-03-29T01:00+03:00", Some("2026-03-29T06:00+03:00")),
            ],
        );
    }

    proptest! {
        #[test]
        fn an_end_is_soon_and_is_none(
            from in 0..1_440_i16, to in 0..1_440_i16, at in 1_700_000_000..1_900_000_000_i64, zone in 0..4_usize,
        ) {
            let zone = ["Europe/Berlin", "Asia/Tokyo", "America/St_Johns", "Australia/Lord_Howe"][zone];
            let zone = TimeZone::get(zone).unwrap();
            let time = |minutes: i16| Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0).unwrap();
            let quiet = Quiet { from: time(from), to: time(to) };
            let at = Timestamp::from_second(at).unwrap();
            if let Some(to) = end(quiet, &zone, at) {
                prop_assert!(at < to && to.as_second() - at.as_second() <= 25 * 3_600);
                // Until then, it is the end all the time.
                let between = Timestamp::from_second(at.as_second().midpoint(to.as_second())).unwrap();
                prop_assert_eq!(end(quiet, &zone, between), Some(to));
            }
            // While clocks are left alone, it is what they show.
            let offset = |hours: i64| zone.to_offset(at + jiff::SignedDuration::from_hours(hours));
            if offset(-50) == offset(0) && offset(0) == offset(50) {
                let shown = zone.to_datetime(at).time();
                let (is_after, is_before) = (shown >= quiet.from, shown < quiet.to);
                let is_quiet = match from.cmp(&to) {
                    Ordering::Less => is_after && is_before,
                    Ordering::Equal => false,
                    Ordering::Greater => is_after || is_before,
                };
                let found = end(quiet, &zone, at);
                prop_assert_eq!(found.is_some(), is_quiet);
                // The end itself is not quiet.
                prop_assert_eq!(found.and_then(|to| end(quiet, &zone, to)), None);
                prop_assert!(found.is_none_or(|found| zone.to_datetime(found).time() == quiet.to));
            }
        }
    }
}
