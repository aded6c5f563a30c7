//! A run over time, drawn.

use super::Pipeline;
use super::parts::PARTS;
use super::probes::Chain;
use crate::bench::plot::{Axis, Panel, Plot, Series};
use crate::stack::SERVICES;

/// Points in a line: more are not told apart.
const POINTS_MAX: usize = 300;

impl Pipeline {
    /// An SVG document.
    pub fn svg(&self) -> String {
        let lag = |(number, (service, _)): (usize, &(&str, &[&str]))| {
            let points = self.samples.iter().map(|sample| (sample.at_s, sample.lags[number] as f64));
            Series { name: (*service).to_owned(), points: thinned(points.collect()) }
        };
        let chain = |chain: &Chain| {
            let of_chain = self.probes.iter().filter(|probe| probe.chain == *chain);
            let points = of_chain.filter_map(|probe| Some((probe.due_s, probe.after_s?)));
            Series { name: chain.name().to_owned(), points: thinned(points.collect()) }
        };
        let pubacks = |name: &str, of: fn(&crate::bench::figures::Delays) -> f64| {
            let acked = self.seconds.iter().filter(|second| second.delays.count > 0);
            let points = acked.map(|second| (second.at_s, of(&second.delays)));
            Series { name: name.to_owned(), points: thinned(points.collect()) }
        };
        let cores = |(number, part): (usize, &&str)| {
            let points = self.samples.windows(2).map(|pair| {
                let used_s = pair[1].cpu_s[number] - pair[0].cpu_s[number];
                (pair[1].at_s, used_s / (pair[1].at_s - pair[0].at_s).max(1e-3))
            });
            Series { name: (*part).to_owned(), points: thinned(points.collect()) }
        };
        let panel = |title: &str, y, series| Panel { title: title.to_owned(), y, bound: None, series };
        let panels = vec![
            panel("behind, records", Axis::Linear, SERVICES.iter().enumerate().map(lag).collect()),
            panel("from the lock to its end, s", Axis::Log, Chain::ALL.iter().map(chain).collect()),
            panel(
                "PUBACK, ms",
                Axis::Log,
                vec![pubacks("p99", |delays| delays.p99_ms), pubacks("p50", |delays| delays.p50_ms)],
            ),
            panel(
                "processors; the broker's with its clients",
                Axis::Linear,
                // Not the benchmark itself.
                PARTS[..PARTS.len() - 1].iter().enumerate().map(cores).collect(),
            ),
        ];
        let note = self.machine.note(&self.kafka);
        Plot { x_name: "seconds".to_owned(), x: Axis::Linear, panels, note }.svg()
    }
}

/// Of each few neighbours, the highest: what stands out is seen.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let few = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |few: &[(f64, f64)]| few.iter().copied().max_by(|one, other| one.1.total_cmp(&other.1));
    points.chunks(few).filter_map(highest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_out_is_not_thinned_out() {
        let points: Vec<_> = (0..1_000).map(|n| (f64::from(n), if n == 501 { 9.0 } else { 1.0 })).collect();
        let thin = thinned(points);
        assert!(thin.len() <= POINTS_MAX && thin.contains(&(501.0, 9.0)), "{thin:?}");
        assert_eq!(thinned(vec![(1.0, 2.0)]), [(1.0, 2.0)]);
        assert!(thinned(Vec::new()).is_empty());
    }
}
