//! A run as a table for people.

use std::fmt;

use super::figures::{GROWTH_S_MAX, Lag, P99_S_MAX};
use super::parts::Part;
use super::probes::Timed;
use super::{FirstRound, Pipeline, Plan};
use crate::bench::figures::Delays;

impl fmt::Display for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { locks, per_second, window, .. } = &self.plan;
        let FirstRound { seconds, drain_s, .. } = self.first_round;
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        writeln!(f, "{locks} locks, {per_second:.0} reports a second for {} s", window.as_secs())?;
        writeln!(
            f,
            "first round: all known and applied after {seconds:.1} s, of that {drain_s:.1} s after the last report"
        )?;
        self.write_lags(f)?;
        self.write_delays(f)?;
        self.write_parts(f)?;
        writeln!(f, "\n{} reports acknowledged, {} in kafka", self.acked, self.stored)?;
        match self.drain_s {
            Some(seconds) => writeln!(f, "everything applied {seconds:.1} s after the last report")?,
            None => writeln!(f, "not everything applied within {} s", self.plan.drain_deadline.as_secs())?,
        }
        for line in
            self.losses.iter().map(|loss| format!("LOST: {loss}")).chain(self.warnings.iter().cloned())
        {
            writeln!(f, "{line}")?;
        }
        if self.verdict.holds {
            writeln!(
                f,
                "it HOLDS: nobody falls behind by more than {GROWTH_S_MAX} s of reports in the second half, and all p99 are below {P99_S_MAX} s, of what is timed from end to end in that half"
            )
        } else {
            writeln!(f, "it DOES NOT HOLD: {}", self.verdict.why.join("; "))
        }
    }
}

impl Pipeline {
    fn write_lags(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nbehind, in records               p50        p99        max     at end   in 2nd half    growth/s  applied/s"
        )?;
        for lag in &self.lags {
            let Lag {
                service, p50, p99, max, at_end, growth_per_second, further, applied_per_second, ..
            } = lag;
            let word = if lag.is_growing { "GROWS" } else { "does not grow" };
            writeln!(
                f,
                "  {service:22} {p50:11} {p99:10} {max:10} {at_end:10} {further:+13} {growth_per_second:11.1} {applied_per_second:10.0}   {word}"
            )?;
        }
        Ok(())
    }

    fn write_delays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nfrom when it was due (ms)          count        p50        p99        max")?;
        let mut line = |name: &str, delays: &Delays, more: &str| {
            let Delays { count, p50_ms, p99_ms, max_ms, .. } = delays;
            writeln!(f, "  {name:28} {count:10} {p50_ms:10.1} {p99_ms:10.1} {max_ms:10.1}{more}")
        };
        let late_ms = self.seconds.iter().map(|second| second.late_ms).fold(0.0, f64::max);
        let held_up_s = self.seconds.iter().map(|second| second.held_up_ms).sum::<f64>() / 1e3;
        let more = match held_up_s {
            0.0 => String::new(),
            _ => format!(", and held up for {held_up_s:.1} s by locks without acknowledgements"),
        };
        line("PUBACK", &self.pubacks, &format!("   the load was late by {late_ms:.1} at most{more}"))?;
        for Timed { chain, delays, missing } in &self.timed {
            let more = if *missing > 0 { format!("   {missing} MISSING") } else { String::new() };
            line(chain.name(), delays, &more)?;
        }
        Ok(())
    }

    fn write_parts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nCPU                                cores  µs a report  memory, MB at most")?;
        for Part { name, cores, us_each, memory_bytes_max } in &self.parts {
            let memory = memory_bytes_max.map(|bytes| (bytes / 1_000_000).to_string()).unwrap_or_default();
            writeln!(f, "  {name:28} {cores:9.2} {us_each:12.1} {memory:>19}")?;
        }
        Ok(())
    }
}
