//! The figures over the number of locks, drawn.

use super::{BYTES_MAX, CONNECTS_PER_SECOND_MIN, HALF_P99_MS_MAX, Row, Scale, Way};
use crate::bench::figures::Delays;
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
            // The process itself grows a little, of which each of few has much.
            y: Axis::Log,
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
            series: both("longest,", |row| ping(row, |ping| ping.max_ms))
                .chain(both("p99,", |row| ping(row, |ping| ping.p99_ms)))
                .collect(),
            ..panel("PING while all leave, ms", Some(storm::MAX_MS))
        };
        let delays = Panel {
            y: Axis::Log,
            series: both("p99,", |row| row.delays.p99_ms.median)
                .chain(both("p50,", |row| row.delays.p50_ms.median))
                .collect(),
            ..panel(&format!("PUBACK at {rate} messages a second, ms"), None)
        };
        let half = Panel {
            y: Axis::Log,
            series: both("p99,", |row| row.half_delays.p99_ms.median)
                .chain(both("p50,", |row| row.half_delays.p50_ms.median))
                .collect(),
            ..panel("PUBACK at half the closed loop's rate, ms", Some(HALF_P99_MS_MAX))
        };
        let x_name = "connected locks".to_owned();
        let panels = vec![memory, connects, cost, ping, delays, half];
        let note = self.machine.note(&self.kafka);
        Plot { x_name, x: Axis::Log, panels, note }.svg()
    }
}

/// What is not known is not drawn.
fn ping(row: &Row, of: fn(&Delays) -> f64) -> f64 {
    row.departure.as_ref().map_or(f64::NAN, |departure| of(&departure.ping))
}
