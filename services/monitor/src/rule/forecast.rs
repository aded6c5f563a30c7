//! When a battery will be nearly empty, as it has been draining: a straight line through the medians
//! of its hours (least squares), and nothing if they are not one.

use super::Step;
use super::threshold;

/// How a battery drains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Until it is nearly empty.
    pub days: f64,
    /// Percent; negative.
    pub slope_per_day: f64,
    /// How much of the variance the line explains, from 0 to 1.
    pub r2: f64,
}

/// Foretells from medians by hour since 1970, from old to new. `None` if they tell nothing: too few,
/// too short, not falling, or not a line.
pub fn forecast(medians: &[(i64, f32)], rule: &threshold::Forecast) -> Option<Forecast> {
    let medians = of_this_battery(medians, rule);
    let (first, last) = (medians.first()?.0, medians.last()?.0);
    if last - first < i64::from(rule.hours_min) || medians.len() < usize::from(rule.medians_min) {
        return None;
    }
    let line = Line::through(medians.iter().map(|(hour, percent)| {
        // In days before the last, so that numbers stay small.
        ((hour - last) as f64 / 24.0, f64::from(*percent))
    }))?;
    if line.slope >= -rule.slope_min || line.r2 < rule.r2_min {
        return None;
    }
    let days = ((line.at_zero - rule.empty_percent) / -line.slope).max(0.0);
    Some(Forecast { days, slope_per_day: line.slope, r2: line.r2 })
}

/// What a forecast does to the alarm.
pub(crate) fn step(is_raised: bool, forecast: Option<&Forecast>, rule: &threshold::Forecast) -> Step {
    match forecast {
        Some(forecast) if !is_raised && forecast.days <= rule.raise_days => Step::Begin,
        Some(forecast) if is_raised && forecast.days > rule.end_days => Step::End,
        None if is_raised => Step::End,
        _ => Step::Stay,
    }
}

/// Whether a battery is another one than before.
pub(crate) fn is_new(before: f32, percent: f32, rule: &threshold::Forecast) -> bool {
    percent - before >= rule.new_points
}

/// The medians that count: not too old, and after the last rise that only a new battery explains.
fn of_this_battery<'a>(medians: &'a [(i64, f32)], rule: &threshold::Forecast) -> &'a [(i64, f32)] {
    let Some((last, _)) = medians.last() else { return medians };
    let oldest = last - i64::from(rule.history_days) * 24;
    let recent = &medians[medians.partition_point(|(hour, _)| *hour <= oldest)..];
    let rise = recent.windows(2).rposition(|pair| is_new(pair[0].1, pair[1].1, rule));
    &recent[rise.map_or(0, |before| before + 1)..]
}

struct Line {
    slope: f64,
    at_zero: f64,
    r2: f64,
}

impl Line {
    /// The line with the least squares; none if all points are above each other, or on one level.
    fn through(points: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Self> {
        let count = points.clone().count() as f64;
        let mean = |sum: f64| sum / count;
        let x = mean(points.clone().map(|(x, _)| x).sum());
        let y = mean(points.clone().map(|(_, y)| y).sum());
        let xx: f64 = points.clone().map(|point| (point.0 - x).powi(2)).sum();
        let yy: f64 = points.clone().map(|point| (point.1 - y).powi(2)).sum();
        let xy: f64 = points.map(|point| (point.0 - x) * (point.1 - y)).sum();
        if xx <= 0.0 || yy <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        Some(Self { slope, at_zero: y - slope * x, r2: xy * xy / (xx * yy) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::load::Rules;

    /// A median each hour, falling so much a day.
    fn line(hours: i64, from: f32, per_day: f32) -> Vec<(i64, f32)> {
        (0..hours).map(|hour| (hour + 1_000, from - per_day * hour as f32 / 24.0)).collect()
    }

    fn days(medians: &[(i64, f32)]) -> Option<f64> {
        let rules = Rules::load(None).expect("the default is valid");
        forecast(medians, &rules.base().battery_forecast).map(|found| (found.days * 10.0).round() / 10.0)
    }

    #[test]
    fn a_line_is_foretold() {
        // Three days on the way from 50, it is 47 and has 37 to go.
        assert_eq!(days(&line(73, 50.0, 1.0)), Some(37.0));
        assert_eq!(days(&line(200, 20.0, 2.0)), Some(0.0), "beyond it already");
    }

    #[test]
    fn what_is_too_short_too_few_too_flat_or_no_line_tells_nothing() {
        assert_eq!(days(&[]), None);
        assert_eq!(days(&line(72, 50.0, 1.0)), None, "71 hours");
        let some: Vec<_> = line(145, 50.0, 1.0).into_iter().step_by(3).collect();
        assert!(days(&some).is_some(), "49 medians");
        assert_eq!(days(&some[2..]), None, "47 medians");
        assert_eq!(days(&line(100, 50.0, 0.019)), None, "flat");
        assert!(days(&line(100, 50.0, 0.021)).is_some());
        assert_eq!(days(&line(100, 50.0, -1.0)), None, "rises");
        assert_eq!(days(&line(100, 50.0, 0.0)), None, "level");
        let steps = |high| (0..100).map(move |hour| (hour, if hour % 10 < 5 { high } else { 50.0 }));
        assert_eq!(days(&steps(60.0).collect::<Vec<_>>()), None, "no line");
    }

    #[test]
    fn only_this_battery_and_only_the_last_days_count() {
        let mut medians = line(100, 50.0, 1.0);
        medians.extend(line(73, 90.0, 2.0).iter().map(|(hour, percent)| (hour + 100, *percent)));
        assert_eq!(days(&medians), Some(37.0), "84 percent, 2 a day");
        assert_eq!(days(&medians[..150]), None, "new for two days");
        let mut slower = line(24 * 14, 80.0, 3.0);
        slower.extend(line(24 * 14, 38.0, 1.0).iter().map(|(hour, percent)| (hour + 24 * 14, *percent)));
        let last_two_weeks = days(&slower[24 * 14..]).unwrap();
        assert_eq!(days(&slower), Some(last_two_weeks));
    }
}
