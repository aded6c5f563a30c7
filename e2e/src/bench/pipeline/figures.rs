//! What the looks of a run come to: how far each service was behind, whether that grew, and whether it
//! all holds. Pure.

use anyhow::{Context, ensure};
use serde::Serialize;

use super::Plan;
use super::probes::{Chain, Probe, Timed};
use super::sample::Sample;
use crate::bench::scale::crowd::reports::{Reported, Second};
use crate::stack::SERVICES;

/// What a service, or the broker, may be further behind at the end of the window than in its middle, in
/// seconds of reports: by the fitted line, and as it is. Less is noise: batches, checkpoints of Postgres,
/// neighbours.
pub(super) const GROWTH_S_MAX: f64 = 2.0;
/// From end to end in the second half of the window, all but one in a hundred; also to the PUBACK.
pub(super) const P99_S_MAX: f64 = 10.0;
/// Part of the reports that must be acknowledged as fast as they were due.
const PACE_MIN: f64 = 0.99;
/// The name of what the broker has not acknowledged.
const BROKER: &str = "broker";

/// How far a service was behind in the window: behind Kafka, and the broker behind the fleet.
#[derive(Debug, Clone, Serialize)]
pub struct Lag {
    /// Which, or the broker.
    pub service: &'static str,
    /// Records, half of the time.
    pub p50: u64,
    /// Records, but for one second in a hundred.
    pub p99: u64,
    /// Records, at most.
    pub max: u64,
    /// Records, when the window ended.
    pub at_end: u64,
    /// Records a second by which it grew in the second half, by the line that fits best.
    pub growth_per_second: f64,
    /// Records by which it was further behind at the end of the window than in its middle; the median
    /// of a twentieth of the window each, so that no single look decides.
    pub further: i64,
    /// Whether one of both is more than noise.
    pub is_growing: bool,
    /// Reports that it applied, or acknowledged, a second.
    pub applied_per_second: f64,
}

/// Whether it holds.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// It does.
    pub holds: bool,
    /// Why not.
    pub why: Vec<String>,
}

/// Of each service in the first `window_s` seconds.
pub(super) fn lags(samples: &[Sample], window_s: f64, per_second: f64) -> anyhow::Result<Vec<Lag>> {
    let window: Vec<&Sample> = samples.iter().filter(|sample| sample.at_s <= window_s).collect();
    let (first, last) = (window.first().context("no look")?, window.last().context("no look")?);
    let seconds = last.at_s - first.at_s;
    ensure!(seconds > 0.0, "too short to measure");
    let lag = |(number, (service, _)): (usize, &(&'static str, _))| {
        let points: Vec<_> = window.iter().map(|sample| (sample.at_s, sample.lags[number])).collect();
        let applied_per_second = (last.applied[number] - first.applied[number]) as f64 / seconds;
        Lag::of(service, &points, applied_per_second, window_s, per_second)
    };
    Ok(SERVICES.iter().enumerate().map(lag).collect())
}

/// Of the broker: reports that were due and are not acknowledged.
pub(super) fn unacknowledged(seconds: &[Second], window_s: f64, per_second: f64) -> Option<Lag> {
    let (mut acked, mut points) = (0, Vec::new());
    for second in seconds.iter().take_while(|second| second.at_s <= window_s + 1.0) {
        acked += second.delays.count;
        let due = (second.at_s.min(window_s) * per_second) as u64;
        points.push((second.at_s, due.saturating_sub(acked)));
    }
    let last_at_s = points.last()?.0;
    Some(Lag::of(BROKER, &points, acked as f64 / last_at_s, window_s, per_second))
}

impl Lag {
    fn of(
        service: &'static str,
        points: &[(f64, u64)],
        applied_per_second: f64,
        window_s: f64,
        per_second: f64,
    ) -> Self {
        let mut sorted: Vec<u64> = points.iter().map(|point| point.1).collect();
        sorted.sort_unstable();
        let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part).round() as usize];
        let half: Vec<_> = points.iter().filter(|point| point.0 >= window_s / 2.0).copied().collect();
        let line: Vec<_> = half.iter().map(|point| (point.0, point.1 as f64)).collect();
        let growth_per_second = slope(&line);
        let at_end = points.last().map_or(0, |point| point.1);
        // The line does not show what begins late in the half, and neither does this in the last fortieth
        // of the window: there only the delays of the probes do, if it is more than their bound.
        let few = half.len().div_ceil(10);
        let further = median(&half[half.len() - few..]) - median(&half[..few]);
        let growth = (growth_per_second * window_s / 2.0).max(further as f64);
        Self {
            service,
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            at_end,
            growth_per_second,
            further,
            is_growing: growth > GROWTH_S_MAX * per_second,
            applied_per_second,
        }
    }
}

/// Records behind; 0 of nothing.
fn median(points: &[(f64, u64)]) -> i64 {
    let mut sorted: Vec<u64> = points.iter().map(|point| point.1).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map_or(0, |&records| records as i64)
}

/// Of the line that fits best.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut both, mut square) = (0.0, 0.0);
    for point in points {
        both += (point.0 - x) * (point.1 - y);
        square += (point.0 - x).powi(2);
    }
    if square > 0.0 { both / square } else { 0.0 }
}

/// What is missing in the end.
pub(super) fn losses(
    acked: u64,
    stored: u64,
    last: &Sample,
    timed: &[Timed],
    drain_s: Option<f64>,
) -> Vec<String> {
    let mut losses = Vec::new();
    // Nobody sends anything again: one too many would hide one that is missing.
    if stored != acked {
        losses.push(format!("{acked} reports were acknowledged, and {stored} are in kafka"));
    }
    if drain_s.is_none() {
        let behind = SERVICES.iter().zip(last.lags).filter(|(_, lag)| *lag > 0);
        let behind: Vec<_> = behind.map(|((service, _), lag)| format!("{service} by {lag}")).collect();
        losses.push(format!("at the deadline services are behind: {}", behind.join(", ")));
    }
    for Timed { chain, missing, .. } in timed.iter().filter(|timed| timed.missing > 0) {
        losses.push(format!("{}: {missing} have not arrived", chain.name()));
    }
    losses
}

/// Whether it holds.
pub(super) fn verdict(
    plan: &Plan,
    lags: &[Lag],
    probes: &[Probe],
    reported: &Reported,
    losses: &[String],
) -> anyhow::Result<Verdict> {
    let mut why = losses.to_vec();
    for lag in lags.iter().filter(|lag| lag.is_growing) {
        let Lag { service, growth_per_second, further, .. } = lag;
        why.push(format!(
            "the {service} falls behind: from the second half's begin to its end by {further} records, or as a fitted line by {growth_per_second:.0} a second"
        ));
    }
    let window_s = plan.window.as_secs_f64();
    let late: Vec<Probe> = probes.iter().filter(|probe| probe.due_s >= window_s / 2.0).copied().collect();
    for chain in Chain::ALL {
        let p99_s = Timed::of(chain, &late)?.delays.p99_ms / 1_000.0;
        if p99_s > P99_S_MAX {
            why.push(format!("{}: p99 {p99_s:.1} s", chain.name()));
        }
    }
    let p99_s = reported.delays.p99_ms / 1_000.0;
    if p99_s > P99_S_MAX {
        why.push(format!("PUBACK: p99 {p99_s:.1} s"));
    }
    let in_time: u64 =
        reported.seconds.iter().filter(|second| second.at_s <= window_s + 1.0).map(|s| s.delays.count).sum();
    if (in_time as f64) < PACE_MIN * reported.delays.count as f64 {
        let percent = 100.0 * in_time as f64 / reported.delays.count.max(1) as f64;
        why.push(format!("{percent:.0} % of the reports were acknowledged in the window"));
    }
    Ok(Verdict { holds: why.is_empty(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Delays;
    use crate::bench::pipeline::parts::PARTS;

    fn sample(at_s: f64, lag: u64) -> Sample {
        let zero = [0; PARTS.len()];
        let applied = (at_s * 100.0) as u64;
        Sample {
            at_s,
            stored: applied + lag,
            applied: [applied; 3],
            lags: [lag, 7, 0],
            cpu_s: [0.0; PARTS.len()],
            memory_bytes: zero,
        }
    }

    #[test]
    fn a_line_is_fitted() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 4.0), (1.0, 1.0), (2.0, 4.0)]), 0.0);
        assert_eq!((slope(&[]), slope(&[(1.0, 1.0)])), (0.0, 0.0));
    }

    #[test]
    fn a_lag_that_grows_is_told_from_one_that_stands() {
        // After the window, nothing counts.
        let run = |lag: fn(u64) -> u64| {
            let samples: Vec<_> = (0..=120).map(|second| sample(second as f64, lag(second))).collect();
            lags(&samples, 100.0, 100.0).unwrap()
        };
        let standing = &run(|second| if second > 100 { 99_999 } else { 50 + second % 3 })[0];
        assert!(!standing.is_growing && standing.max == 52 && standing.p50 == 51, "{standing:?}");
        let growing = &run(|second| 10 * second)[0];
        assert!(growing.is_growing && growing.at_end == 1_000, "{growing:?}");
        assert!((growing.growth_per_second - 10.0).abs() < 1e-9 && growing.applied_per_second == 100.0);
        let healing = &run(|second| 2_000 - 10 * second)[0];
        assert!(!healing.is_growing && healing.max == 2_000, "{healing:?}");
        // A second and a half is noise, two and a half are not; what begins in the very end is not seen.
        for (begins_after, lag, is_growing) in [(96, 150, false), (96, 250, true), (98, 250, false)] {
            let samples: Vec<_> = (0..=100)
                .map(|second| sample(f64::from(second), if second > begins_after { lag } else { 0 }))
                .collect();
            let late = &lags(&samples, 100.0, 100.0).unwrap()[0];
            assert_eq!((late.is_growing, late.at_end), (is_growing, lag), "{late:?}");
        }
    }

    #[test]
    fn a_broker_that_does_not_acknowledge_in_time_falls_behind() {
        let of = |acked_per_second: u64| {
            let count = acked_per_second;
            let delays = Delays { count, p50_ms: 1.0, p95_ms: 1.0, p99_ms: 1.0, p999_ms: 1.0, max_ms: 1.0 };
            let second =
                |at_s: f64| Second { at_s, clients_cpu_s: 0.0, late_ms: 0.0, held_up_ms: 0.0, delays };
            let seconds: Vec<_> = (1..=600).map(|at| second(f64::from(at))).collect();
            unacknowledged(&seconds, 600.0, 1_000.0).unwrap()
        };
        let prompt = of(1_000);
        assert_eq!((prompt.is_growing, prompt.max, prompt.applied_per_second), (false, 0, 1_000.0));
        let slow = of(990);
        assert!(slow.is_growing && slow.at_end == 6_000, "{slow:?}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = Timed::of(Chain::Alarm, &[Probe { chain: Chain::Alarm, due_s: 1.0, after_s: None }]);
        let timed = [missing.unwrap()];
        assert!(losses(10, 10, &sample(1.0, 0), &[], Some(0.1)).is_empty());
        assert_eq!(losses(10, 11, &sample(1.0, 0), &[], Some(0.1)).len(), 1);
        let losses = losses(10, 9, &sample(1.0, 5), &timed, None);
        assert_eq!(losses.len(), 3);
        assert!(losses[1].contains("auditor by 5, monitor by 7"), "{losses:?}");
    }
}
