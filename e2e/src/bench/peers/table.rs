//! The table for people.

use std::fmt;

use crate::bench::cost::{Cost, Loop};
use crate::bench::idle::{BYTES_MAX, Idle};
use crate::bench::peers::subscriber::Received;
use crate::bench::peers::{Absent, Bound, Judged, Peers};
use crate::bench::report::held;
use crate::bench::target::Kind;

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; {}", self.machine, self.kafka)?;
        for Absent { kind, why } in &self.absent {
            writeln!(f, "NOT MEASURED: {}, {why}", kind.name())?;
        }
        self.write_idle(f)?;
        write_costs(f, &self.cost)?;
        for closed in self.cost.iter().filter(|cost| cost.load == Loop::Closed) {
            if !self.cost.iter().any(|cost| (cost.kind, cost.load) == (closed.kind, Loop::Open)) {
                writeln!(f, "NOT MEASURED: {}, fixed rate, it is slower", closed.kind.name())?;
            }
        }
        write_costs(f, &self.many)?;
        writeln!(f, "\ncompared, by turns                                           ratio, median (range)")?;
        for Judged { name, ratio, bound } in &self.ratios {
            let spread = format!("{ratio:.2}");
            writeln!(f, "  {name:57}  {spread:26} {}", bound.verdict(ratio.median))?;
        }
        self.write_received(f)
    }
}

impl Peers {
    fn write_idle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmemory of an idle connection    connections   bytes each   empty process")?;
        for Idle { kind, connections, empty_bytes, bytes_per_connection } in &self.idle {
            let name = kind.name();
            let mib = *empty_bytes as f64 / f64::from(1 << 20);
            write!(f, "  {name:28} {connections:12} {bytes_per_connection:12.0} {mib:11.1} MiB")?;
            if *kind == Kind::Bridge && self.plan.idle_connections.last() == Some(connections) {
                write!(f, "   bound {BYTES_MAX}: {}", held(*bytes_per_connection, BYTES_MAX))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn write_received(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\none subscriber          acknowledged   received, median (range)      lost at most   twice   disordered   messages/s   CPU µs"
        )?;
        for received in &self.received {
            let Received { kind, acknowledged, lost_max, duplicates, disordered, .. } = received;
            let (name, got) = (kind.name(), format!("{:.0}", received.received));
            let (rate, cpu_us) = (received.per_second.median, received.cpu_us.median);
            write!(
                f,
                "  {name:20} {acknowledged:13}   {got:28} {lost_max:13} {duplicates:7} {disordered:12} {rate:12.0} {cpu_us:8.1}"
            )?;
            if kind.is_ours() {
                let spoiled = lost_max + disordered;
                write!(f, "   all, in order: {}", held(spoiled as f64, 0.0))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn write_costs(f: &mut fmt::Formatter<'_>, costs: &[Cost]) -> fmt::Result {
    writeln!(
        f,
        "\nCPU time of a QoS 1 message             locks    µs, median (range)       messages/s, median (range)"
    )?;
    for Cost { kind, locks, load, cpu_us, per_second, .. } in costs {
        let name = format!("{}, {}", kind.name(), load.name());
        let (cpu_us, per_second) = (cpu_us.to_string(), format!("{per_second:.0}"));
        writeln!(f, "  {name:34} {locks:8}   {cpu_us:24} {per_second}")?;
    }
    Ok(())
}

impl Bound {
    fn verdict(self, figure: f64) -> String {
        match self {
            Self::AtMost(bound) => format!("bound {bound}: {}", held(figure, bound)),
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
