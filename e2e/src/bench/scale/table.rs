//! The figures as a table.

use std::fmt;

use super::{BYTES_FROM, BYTES_MAX, CONNECTS_PER_SECOND_MIN, HALF_P99_MS_MAX, Row, Scale};
use crate::bench::report::{Machine, held};
use crate::bench::storm;

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, kernel, load_before } = &self.machine;
        writeln!(f, "{processor}, {cores} cores, Linux {kernel}, load {load_before} before; {}", self.kafka)?;
        self.write_connections(f)?;
        self.write_costs(f)?;
        self.write_delays(f)?;
        self.write_departures(f)
    }
}

impl Scale {
    fn write_connections(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nlocks                  connects/s             CPU µs        bytes each")?;
        for row in &self.rows {
            let (per_second, bytes) = (row.connects_per_second, row.bytes_each);
            write!(f, "{} {per_second:12.0}", Name(row))?;
            write!(f, "   {:>6}", held(CONNECTS_PER_SECOND_MIN, per_second))?;
            write!(f, " {:12.0} {bytes:17.0}   ", row.connect_cpu_us)?;
            // The process itself grows a little, whoever connects: of few, each has much of that.
            let verdict = if row.locks >= BYTES_FROM { held(bytes, BYTES_MAX) } else { "" };
            write!(f, "{verdict:6}")?;
            if let Some(stream_bytes) = row.stream_bytes_each {
                let all = bytes + stream_bytes;
                write!(f, "   and {stream_bytes:.0} for its stream and client: {all:.0}")?;
            }
            writeln!(f)?;
        }
        let bound = format!("at most {BYTES_MAX} from {BYTES_FROM} locks on");
        writeln!(f, "bounds: at least {CONNECTS_PER_SECOND_MIN} connects/s; {bound}")
    }

    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.plan.rate_per_second;
        writeln!(f, "\nCPU µs a message        {rate}/s               closed loop           messages/s")?;
        for row in &self.rows {
            let (open, closed) = (row.open_cpu_us.to_string(), row.closed_cpu_us.to_string());
            writeln!(f, "{}    {open:22} {closed:22} {:.0}", Name(row), row.closed_per_second)?;
        }
        for row in &self.rows {
            let Some(everybody) = &row.everybody else { continue };
            let (cpu_us, delays) = (everybody.cpu_us, everybody.delays);
            writeln!(
                f,
                "{}    {cpu_us:.1} when each reports in turn; PUBACK p50 {:.2} ms, p99 {:.2} ms",
                Name(row),
                delays.p50_ms,
                delays.p99_ms
            )?;
        }
        Ok(())
    }

    fn write_delays(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.plan.rate_per_second;
        writeln!(
            f,
            "\nPUBACK in ms         {rate}/s: p50       p99    half the highest: /s       p50       p99"
        )?;
        for row in &self.rows {
            let (fixed, half) = (row.delays, row.half_delays);
            write!(f, "{} {:12.2} {:9.2}", Name(row), fixed.p50_ms, fixed.p99_ms)?;
            write!(
                f,
                " {:24.0} {:9.2} {:9.2}",
                row.closed_per_second.median / 2.0,
                half.p50_ms,
                half.p99_ms
            )?;
            writeln!(f, "   {}", held(half.p99_ms, HALF_P99_MS_MAX))?;
        }
        writeln!(f, "bound: p99 at most {HALF_P99_MS_MAX} ms at half the highest rate")
    }

    fn write_departures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nPING in ms while all leave      seconds       p50       p99       max   elsewhere max"
        )?;
        for row in &self.rows {
            let (ping, seconds) = (row.ping, row.leave_seconds);
            write!(f, "{} {seconds:15.2} {:9.2} {:9.2}", Name(row), ping.p50_ms, ping.p99_ms)?;
            write!(f, " {:9.1} {:12.1}", ping.max_ms, row.calm_ping.max_ms)?;
            writeln!(f, "      {}", held(ping.max_ms, storm::MAX_MS))?;
        }
        writeln!(f, "bound: at most {} ms", storm::MAX_MS)
    }
}

/// The head of a line.
struct Name<'a>(&'a Row);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10} {:9}", self.0.way.name(), self.0.locks)
    }
}
