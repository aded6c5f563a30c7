//! The figures over the number of locks, drawn.

use super::{BYTES_MAX, CONNECTS_PER_SECOND_MIN, HALF_P99_MS_MAX, Row, Scale, Way};
use crate::bench::plot::{Axis, Panel, Plot, Series};
use crate::bench::storm;

impl Scale {
    /// An SVG document.
    pub fn svg(&self) -> String {
        let rate = self.plan.rate_per_second;
        let both = |name: &str, of: fn(&Row) -> f64| {
            let with = |way: Way| {
                let rows = self.rows.iter().filter(move |row| row.way == way);
                let points = rows.map(|row| (f64::from(row.locks), of(row))).collect();
                Series { name: [name, way.name()].join(" ").trim().to_owned(), points }
            };
            [with(Way::Sockets), with(Way::InProcess)].into_iter()
        };
        let panel = |title: &str, bound| Panel {
            title: title.to_owned(),
            y: Axis::Linear,
            bound,
            series: Vec::new(),
        };
        let memory = Panel {
            series: both("", |row| row.bytes_each).collect(),
            ..panel("memory of a connection, bytes", Some(BYTES_MAX))
        };
        let connects = Panel {
            series: both("", |row| row.connects_per_second).collect(),
            ..panel("connections a second", Some(CONNECTS_PER_SECOND_MIN))
        };
        let cost = Panel {
            series: both("fixed rate,", |row| row.open_cpu_us.median)
                .chain(both("closed loop,", |row| row.closed_cpu_us.median))
                .collect(),
            ..panel("CPU time of a message, µs", None)
        };
        let ping = Panel {
            y: Axis::Log,
            series: both("longest,", |row| row.ping.max_ms)
                .chain(both("p99,", |row| row.ping.p99_ms))
                .collect(),
            ..panel("PING while all leave, ms", Some(storm::MAX_MS))
        };
        let delays = Panel {
            y: Axis::Log,
            series: both("p99,", |row| row.delays.p99_ms)
                .chain(both("p50,", |row| row.delays.p50_ms))
                .collect(),
            ..panel(&format!("PUBACK at {rate} messages a second, ms"), None)
        };
        let half = Panel {
            y: Axis::Log,
            series: both("p99,", |row| row.half_delays.p99_ms)
                .chain(both("p50,", |row| row.half_delays.p50_ms))
                .collect(),
            ..panel("PUBACK at half the highest rate, ms", Some(HALF_P99_MS_MAX))
        };
        let x_name = "connected locks".to_owned();
        Plot { x_name, x: Axis::Log, panels: vec![memory, connects, cost, ping, delays, half] }.svg()
    }
}
