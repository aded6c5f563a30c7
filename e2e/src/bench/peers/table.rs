//! The table for people.

use std::fmt::{self, Write};

use crate::bench::cost::Cost;
use crate::bench::group::Heard;
use crate::bench::idle::{BYTES_MAX, Idle};
use crate::bench::peers::slow::{Counted, Slow};
use crate::bench::peers::subscriber::Received;
use crate::bench::peers::{Absent, Bound, IdleRatio, Judged, Peers};
use crate::bench::report::held;
use crate::bench::shares::Shares;
use crate::bench::stored::Stored;
use crate::bench::target::Kind;

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        for Absent { kind, why } in &self.absent {
            writeln!(f, "NOT MEASURED: {}, {why}", kind.name())?;
        }
        for failed in &self.failed {
            writeln!(f, "{failed}")?;
        }
        f.write_str(&self.idle_table())?;
        f.write_str(&costs(&self.cost))?;
        f.write_str(&self.slow())?;
        f.write_str(&costs(&self.many))?;
        f.write_str(&self.heard_table())?;
        writeln!(f, "\n{:68}  ratio, median (range)", "compared, by turns")?;
        for Judged { name, ratio, bound } in &self.ratios {
            let spread = format!("{ratio:.2}");
            writeln!(f, "  {name:66}  {spread:26} {}", bound.verdict(ratio.median))?;
        }
        f.write_str(&self.received_table())?;
        f.write_str(&self.slow_subscriber_table())?;
        f.write_str(&self.stored_table())
    }
}

// Writing to a string cannot fail, so what it answers is not looked at.
impl Peers {
    pub(super) fn idle_table(&self) -> String {
        let mut table =
            "\nmemory of an idle connection    connections   bytes each   empty process   (each started once)\n"
                .to_owned();
        for Idle { kind, connections, empty_bytes, bytes_per_connection, is_at_rest } in &self.idle {
            let name = kind.name();
            let mib = *empty_bytes as f64 / f64::from(1 << 20);
            let _ = write!(table, "  {name:28} {connections:12} {bytes_per_connection:12.0} {mib:11.1} MiB");
            if *kind == Kind::Bridge && self.plan.idle_connections.last() == Some(connections) {
                let _ = write!(table, "   bound {BYTES_MAX}: {}", held(*bytes_per_connection, BYTES_MAX));
            }
            table.push_str(if *is_at_rest { "\n" } else { "   not at rest\n" });
        }
        for IdleRatio { ours, peer, connections, ratio } in &self.idle_ratios {
            let name = format!("{} to {}", ours.name(), peer.name());
            let _ = writeln!(table, "  {name:28} {connections:12} {ratio:12.2} times");
        }
        table
    }

    /// Who was not asked to take a fixed rate in all turns.
    fn slow(&self) -> String {
        let mut table = String::new();
        let turns = |kind, load| {
            let same = |cost: &&Cost| (cost.kind, cost.load) == (kind, load);
            self.cost.iter().find(same).map_or(0, |cost| cost.samples.len())
        };
        let has_failed = |kind| self.failed.iter().any(|failed| failed.kind == kind);
        let first = self.cost.iter().filter(|cost| cost.load == self.plan.turns.loads[0]);
        for closed in first.filter(|cost| !has_failed(cost.kind)) {
            for &load in &self.plan.turns.loads {
                let left_out = closed.samples.len().saturating_sub(turns(closed.kind, load));
                if left_out > 0 {
                    let (name, load) = (closed.kind.name(), load.name());
                    let _ = writeln!(table, "NOT MEASURED: {name}, {load}, {left_out} turns, it is slower");
                }
            }
        }
        table
    }

    fn heard_table(&self) -> String {
        let mut table = String::new();
        for Heard { kind, acknowledged, received, duplicates, disordered } in &self.heard {
            let (name, missing) = (kind.name(), acknowledged.saturating_sub(*received));
            let _ = write!(
                table,
                "  {name}: one subscriber got {received} of {acknowledged} acknowledged, {duplicates} twice, {disordered} out of order"
            );
            if kind.is_ours() {
                let _ = write!(table, "   all: {}", held((missing + duplicates + disordered) as f64, 0.0));
            }
            table.push('\n');
        }
        table
    }

    pub(super) fn received_table(&self) -> String {
        let mut table = "\none subscriber, each turn anew    turns   acknowledged   received, median (range)      lost at most   twice   disordered   messages/s   CPU µs\n".to_owned();
        for received in &self.received {
            let Received { kind, turns, acknowledged, lost_max, duplicates, disordered, .. } = received;
            let (name, got) = (kind.name(), format!("{:.0}", received.received));
            let (rate, cpu_us) = (received.per_second.median, received.cpu_us.median);
            let _ = write!(
                table,
                "  {name:29} {turns:7} {acknowledged:14}   {got:28} {lost_max:13} {duplicates:7} {disordered:12} {rate:12.0} {cpu_us:8.1}"
            );
            if kind.is_ours() {
                let spoiled = lost_max + duplicates + disordered;
                let _ = write!(table, "   all, once, in order: {}", held(spoiled as f64, 0.0));
            }
            table.push('\n');
        }
        table
    }

    pub(super) fn slow_subscriber_table(&self) -> String {
        let mut table = "\none subscriber that cannot keep up    reads/s    acknowledged/s    received/s   acknowledged       received           lost   counted as dropped   held back\n".to_owned();
        for slow in &self.slow {
            let Slow { kind, reads_per_second, wait_ms, acknowledged, received, counted, .. } = slow;
            let wait = wait_ms.map_or(String::new(), |wait_ms| format!(", for {wait_ms} ms"));
            let (name, lost) = (format!("{}{wait}", kind.name()), slow.lost());
            let count =
                |of: fn(&Counted) -> u64| counted.as_ref().map_or("?".to_owned(), |c| of(c).to_string());
            let _ = write!(
                table,
                "  {name:35} {reads_per_second:8} {:17.0} {:13.0} {acknowledged:14} {received:14} {lost:14} {:>20} {:>11}",
                slow.acknowledged_per_second,
                slow.received_per_second,
                count(|counted| counted.dropped),
                count(|counted| counted.held_back),
            );
            if kind.is_ours() {
                let _ = write!(table, "   all counted: {}", held(slow.miscounted() as f64, 0.0));
                if wait_ms.is_none() {
                    let _ = write!(table, ", none lost: {}", held(lost as f64, 0.0));
                }
            }
            table.push('\n');
        }
        table
    }

    fn stored_table(&self) -> String {
        let mut table = "\nwith bridge: Kafka's end of what was acknowledged\n".to_owned();
        let of_subscribers = self.received.iter().filter_map(|received| received.stored.as_ref());
        let of_slow_ones = self.slow.iter().filter_map(|slow| slow.stored.as_ref());
        for stored in self.stored.iter().chain(of_subscribers).chain(of_slow_ones) {
            let Stored { part, acknowledged, stored } = stored;
            let missing = acknowledged.saturating_sub(*stored);
            let verdict = held(missing as f64, 0.0);
            let _ =
                writeln!(table, "  {part:28} {acknowledged} acknowledged, {stored} stored   all: {verdict}");
        }
        table
    }
}

/// Also says who had the processors: a rate is the target's only where that was the limit.
pub(super) fn costs(costs: &[Cost]) -> String {
    let mut table = format!(
        "\nCPU time of a QoS 1 message                locks    µs, median (range)       messages/s, median (range)    {}\n",
        Shares::HEAD
    );
    for Cost { kind, locks, load, cpu_us, per_second, shares, .. } in costs {
        let name = format!("{}, {}", kind.name(), load.name());
        let (cpu_us, per_second) = (cpu_us.to_string(), format!("{per_second:.0}"));
        let _ = writeln!(table, "  {name:36} {locks:8}   {cpu_us:24} {per_second:26} {shares}");
    }
    table
}

impl Bound {
    fn verdict(self, figure: f64) -> String {
        match self {
            Self::AtMost(bound) => format!("bound {bound}: {}", held(figure, bound)),
            Self::None => String::new(),
            Self::AtLeast(bound) => format!("bound {bound} or more: {}", held(bound, figure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged() {
        for (bound, figure, verdict) in [
            (Bound::AtMost(1.5), 1.5, "bound 1.5: held"),
            (Bound::AtMost(1.5), 1.6, "bound 1.5: MISSED"),
            (Bound::AtLeast(100.0), 99.0, "bound 100 or more: MISSED"),
            (Bound::AtLeast(100.0), 250.0, "bound 100 or more: held"),
        ] {
            assert_eq!(bound.verdict(figure), verdict);
        }
    }
}
