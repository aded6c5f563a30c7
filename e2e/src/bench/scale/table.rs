//! The figures as a table.

use std::fmt::{self, Write};

use super::{
    BYTES_FROM, BYTES_MAX, CONNECTS_FROM, CONNECTS_PER_SECOND_MIN, Departure, Everybody, HALF_P99_MS_MAX,
    PINGS_MIN, Percentiles, Row, Scale,
};
use crate::bench::publishers::WINDOW;
use crate::bench::report::held;
use crate::bench::shares::Shares;
use crate::bench::stored::Stored;
use crate::bench::storm;

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        for locks in &self.plan.sockets_left_out {
            writeln!(
                f,
                "NOT MEASURED: {locks} locks on sockets, a process may not have that many open files"
            )?;
        }
        for failed in &self.failed {
            writeln!(f, "{failed}")?;
        }
        f.write_str(&self.costs_table())?;
        f.write_str(&self.departures())?;
        if let Some(Stored { part, acknowledged, stored }) = &self.stored {
            let verdict = held(acknowledged.saturating_sub(*stored) as f64, 0.0);
            writeln!(f, "\n{part}: {acknowledged} acknowledged, {stored} stored in Kafka   all: {verdict}")?;
        }
        Ok(())
    }
}

// Writing to a string cannot fail, so what it answers is not looked at.
impl Scale {
    /// All but what is known at the end.
    pub(super) fn costs_table(&self) -> String {
        [self.connections(), self.costs(), self.delays()].concat()
    }

    fn connections(&self) -> String {
        let mut table =
            "\nlocks, clean sessions  connects/s, once       CPU µs        bytes each\n".to_owned();
        for row in &self.rows {
            let (per_second, bytes) = (row.connects_per_second, row.bytes_each);
            let is_enough = row.locks >= CONNECTS_FROM;
            let verdict = if is_enough { held(CONNECTS_PER_SECOND_MIN, per_second) } else { "" };
            let cpu_us = row.connect_cpu_us;
            let _ =
                write!(table, "{} {per_second:12.0}   {verdict:>6} {cpu_us:12.0} {bytes:17.0}   ", Name(row));
            // The process itself grows a little, whoever connects: of few, each has much of that.
            let verdict = if row.locks >= BYTES_FROM { held(bytes, BYTES_MAX) } else { "" };
            let _ = write!(table, "{verdict:6}");
            if let Some(stream_bytes) = row.stream_bytes_each {
                let all = bytes + stream_bytes;
                let _ = write!(table, "   and {stream_bytes:.0} for its stream and client: {all:.0}");
            }
            table.push('\n');
        }
        let _ = writeln!(
            table,
            "bounds: at least {CONNECTS_PER_SECOND_MIN} connects/s from {CONNECTS_FROM} locks on; \
             at most {BYTES_MAX} bytes from {BYTES_FROM} on"
        );
        table
    }

    fn costs(&self) -> String {
        let rate = self.plan.rate_per_second;
        let mut table = format!(
            "\nCPU µs a message        {rate}/s               closed loop            its messages/s              {}\n",
            Shares::HEAD
        );
        for row in &self.rows {
            let (open, closed) = (row.open_cpu_us.to_string(), row.closed_cpu_us.to_string());
            let (per_second, shares) = (format!("{:.0}", row.closed_per_second), row.shares);
            let _ = writeln!(table, "{}    {open:22} {closed:22} {per_second:26} {shares}", Name(row));
        }
        table
    }

    fn delays(&self) -> String {
        let mut table = "\nPUBACK in ms                             a second       p50, median (range)       p99, median (range)     p99 of the load: sending  reading\n".to_owned();
        for (name, is_half) in [("fixed rate", false), ("half the closed loop's", true)] {
            for row in &self.rows {
                let delays = if is_half { &row.half_delays } else { &row.delays };
                let Percentiles { rate_per_second, p50_ms, p99_ms, late, .. } = delays;
                let (p50, p99) = (format!("{p50_ms:.2}"), format!("{p99_ms:.2}"));
                let _ = write!(
                    table,
                    "{} {name:23} {:8.0}   {p50:25} {p99:25} {:22.2} {:8.2}",
                    Name(row),
                    rate_per_second.median,
                    late.sending_p99_ms,
                    late.reading_p99_ms
                );
                let is_ours = late.sending_p99_ms.max(late.reading_p99_ms) < HALF_P99_MS_MAX;
                let verdict = match held(p99_ms.median, HALF_P99_MS_MAX) {
                    _ if !is_half => "",
                    "MISSED" if !is_ours => "MISSED, but the load was as late",
                    verdict => verdict,
                };
                let _ = writeln!(table, "   {verdict}");
            }
        }
        let _ = writeln!(
            table,
            "bound: p99 at most {HALF_P99_MS_MAX} ms at half the rate of the closed loop of {} messages in the same turn",
            self.plan.publishers * u32::from(WINDOW)
        );
        table
    }

    fn departures(&self) -> String {
        let mut table = String::new();
        for row in &self.rows {
            let Some(Everybody { cpu_us, delays }) = &row.everybody else { continue };
            let _ = writeln!(
                table,
                "{}    {cpu_us:.1} µs when each reports in turn; PUBACK p50 {:.2} ms, p99 {:.2} ms",
                Name(row),
                delays.p50_ms,
                delays.p99_ms
            );
        }
        table.push_str(
            "\nPING in ms while all leave, once seconds    pings       p50       p99       max   elsewhere max\n",
        );
        for row in &self.rows {
            let Some(Departure { seconds, ping, calm_ping }) = row.departure else { continue };
            let name = Name(row);
            let _ = write!(table, "{name} {seconds:19.2} {:8} {:9.2}", ping.count, ping.p50_ms);
            let _ = write!(table, " {:9.2} {:9.1} {:12.1}", ping.p99_ms, ping.max_ms, calm_ping.max_ms);
            let is_enough = ping.count >= PINGS_MIN;
            let verdict = if is_enough { held(ping.max_ms, storm::MAX_MS) } else { "too few" };
            let _ = writeln!(table, "      {verdict}");
        }
        let _ = writeln!(table, "bound: at most {} ms", storm::MAX_MS);
        table
    }
}

/// The head of a line.
struct Name<'a>(&'a Row);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10} {:9}", self.0.way.name(), self.0.locks)
    }
}
