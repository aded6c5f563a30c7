//! Noise: what a measurement of a battery adds to its charge must not raise alarms.

use latchline_shared::alarm::AlarmType;

use super::*;
use crate::rule::forecast::forecast;

const MINUTE_MS: i64 = 60_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From minus to plus this.
    fn within(&mut self, bound: f64) -> f64 {
        (self.unit() * 2.0 - 1.0) * bound
    }

    /// Nearly normal: the sum of twelve.
    fn normal(&mut self, sigma: f64) -> f64 {
        ((0..12).map(|_| self.unit()).sum::<f64>() - 6.0) * sigma
    }
}

/// Reports a battery each minute; what was said of it.
fn drain(
    rules: &Rules,
    minutes: i64,
    mut battery: impl FnMut(i64) -> f64,
) -> (Lock, Vec<Signal>, Vec<(i64, f32)>) {
    let (reading, mut report) = report_of(&[]);
    let mut lock = Lock::new(&Seen { at_ms: START_MS, offset: 0, dup: false, payload_hash: 0 });
    let (mut signals, mut medians) = (Vec::new(), Vec::new());
    for minute in 0..minutes {
        let seen = Seen { at_ms: START_MS + minute * MINUTE_MS, offset: minute, dup: false, payload_hash: 0 };
        // One decimal, as locks report it.
        report.battery = Some(((battery(minute) * 10.0).round() / 10.0) as f32);
        lock.report(rules.of(""), reading, &report, &seen, &mut signals);
        while let Some(hour) = lock.take_hour(seen.at_ms, 0) {
            medians.push((i64::from(hour.day) * 24 + i64::from(hour.hour), f32::from(hour.tenths) / 10.0));
        }
    }
    assert_well_formed(&signals);
    (lock, signals, medians)
}

#[test]
fn noise_around_the_threshold_raises_once() {
    let rules = default_rules();
    for seed in 0..8 {
        for drift_per_day in [0.0, -0.5, 0.5, -2.0, 2.0] {
            let mut random = Random(seed);
            let (_, signals, _) = drain(rules, 24 * 60, |minute| {
                20.0 + drift_per_day * minute as f64 / 1_440.0 + random.within(1.5)
            });
            let of = |what: fn(&What) -> bool| {
                signals
                    .iter()
                    .filter(|signal| signal.alarm == AlarmType::BatteryLow && what(&signal.what))
                    .count()
            };
            let begun = of(|what| matches!(what, What::Begin(_)));
            let ended = of(|what| *what == What::End);
            let held = of(|what| *what == What::Hold);
            assert_eq!((begun, ended), (1, 0), "seed {seed}, {drift_per_day} a day");
            assert!(held <= 144, "once in ten minutes: {held}");
            let others = signals.iter().filter(|signal| signal.alarm != AlarmType::BatteryLow).count();
            assert_eq!(others, 0, "seed {seed}, {drift_per_day} a day");
        }
    }
}

#[test]
fn a_week_of_noise_foretells_within_a_tenth() {
    let rules = default_rules();
    for seed in 0..20 {
        let mut random = Random(seed);
        let charge = |minute: i64| 40.0 - 0.5 * minute as f64 / 1_440.0;
        let (_, _, medians) = drain(rules, 7 * 1_440 + 1, |minute| charge(minute) + random.normal(0.5));
        assert_eq!(medians.len(), 7 * 24);
        let found = forecast(&medians, &rules.of("").battery_forecast).unwrap();
        let expected = (charge(7 * 1_440) - 10.0) / 0.5;
        let off = (found.days - expected).abs() / expected;
        assert!(off < 0.1, "seed {seed}: {found:?}, expected {expected}");
    }
}

#[test]
fn a_battery_that_does_not_drain_is_not_foretold() {
    let rules = default_rules();
    for seed in 0..20 {
        let mut random = Random(seed);
        let (_, _, medians) = drain(rules, 7 * 1_440, |_| 50.0 + random.normal(0.5));
        assert_eq!(forecast(&medians, &rules.of("").battery_forecast), None, "seed {seed}");
    }
}

#[test]
fn forecasts_are_due_once_a_day_and_spread_over_it() {
    let rules = default_rules();
    let mut hours = [0; 24];
    for id in 0..2_400 {
        let id = format!("lock-{id}");
        let (mut lock, _, _) = drain(rules, 1, |_| 50.0);
        let mut due = Vec::new();
        for hour in 0..72 {
            let at_ms = START_MS + hour * 60 * MINUTE_MS;
            if lock.is_forecast_due(rules.of(""), &id, at_ms) {
                due.push(hour);
                lock.forecast(rules.of(""), None, at_ms, &mut Vec::new());
            }
        }
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 24), "{due:?}");
        assert!((2..=3).contains(&due.len()) && due[0] > 0, "{due:?}");
        hours[due[0] as usize % 24] += 1;
    }
    assert!(hours.iter().all(|count| (50..200).contains(count)), "{hours:?}");
}
