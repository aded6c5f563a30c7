//! Figures that sum up measurements.

use std::fmt;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The median of some measurements, and their extremes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half are below it.
    pub median: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// Sums up; without a measurement there is nothing to sum up.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, low, high })
    }

    /// The quotients of measurements that were made together. What took no tick of the kernel's clock
    /// has no quotient.
    pub fn of_ratios(numerators: &[f64], denominators: &[f64]) -> Option<Self> {
        let ratios =
            numerators.iter().zip(denominators).map(|(numerator, denominator)| numerator / denominator);
        Self::of(ratios.filter(|ratio| ratio.is_finite()))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(1);
        let Self { median, low, high } = self;
        write!(f, "{median:.digits$} ({low:.digits$} to {high:.digits$})")
    }
}

/// From 1 µs to a day, with three digits: what is late by hours must not look like a minute.
const DELAY_US_MAX: u64 = 24 * 3_600 * 1_000_000;

/// A histogram of delays in microseconds.
pub fn delays() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, DELAY_US_MAX, 3).context("make a histogram of delays")
}

/// Delays in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// How many were measured.
    pub count: u64,
    /// Half were shorter.
    pub p50_ms: f64,
    /// All but five in a hundred were shorter.
    pub p95_ms: f64,
    /// All but one in a hundred were shorter.
    pub p99_ms: f64,
    /// All but one in a thousand were shorter.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Delays {
    /// Sums up a histogram of microseconds.
    pub fn of(delays_us: &Histogram<u64>) -> Self {
        let ms = |quantile| delays_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: delays_us.len(),
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: delays_us.max() as f64 / 1000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_summed_up() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        let ratios = Spread::of_ratios(&[2.0, 9.0], &[1.0, 3.0]).unwrap();
        assert_eq!(ratios, Spread { median: 2.5, low: 2.0, high: 3.0 });
        assert_eq!(format!("{ratios:.2}"), "2.50 (2.00 to 3.00)");
        assert_eq!(Spread::of_ratios(&[2.0, 3.0], &[0.0, 3.0]).unwrap().high, 1.0);
    }

    #[test]
    fn delays_are_in_milliseconds() {
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1000).for_each(|n| histogram.record(n * 1000).unwrap());
        let delays = Delays::of(&histogram);
        assert_eq!((delays.count, delays.max_ms.round()), (1000, 1000.0));
        assert!((delays.p50_ms - 500.0).abs() < 1.0 && (delays.p999_ms - 999.0).abs() < 1.0, "{delays:?}");
    }
}
