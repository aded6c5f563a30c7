//! How long things took, as a table for people. Pure.

use std::fmt::Write;
use std::time::Duration;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// From a lock's publish to its PUBACK: Kafka has the report.
    Acknowledged,
    /// From the operator's publish to the lock's answer.
    Answered,
    /// From a lock's report to the alarm in Kafka.
    Raised,
    /// From an attack to the alarm in Kafka: through auditor and monitor.
    Attacked,
    /// From what happened to the mail.
    Mailed,
    /// From what happened to the SMS.
    Texted,
}

impl Span {
    const ALL: [(Self, &str); 6] = [
        (Self::Acknowledged, "report published → acknowledged: Kafka has it"),
        (Self::Answered, "command published → answered by the lock"),
        (Self::Raised, "trouble reported → alarm raised"),
        (Self::Attacked, "attack refused → judged, alarm raised"),
        (Self::Mailed, "it happens → the owner has a mail"),
        (Self::Texted, "it happens → the owner has an SMS"),
    ];
}

/// All that was measured.
#[derive(Debug, Default)]
pub struct Figures(Vec<(Span, Duration)>);

impl Figures {
    /// One more.
    pub fn add(&mut self, span: Span, took: Duration) {
        self.0.push((span, took));
    }

    /// One more, between two times in Unix milliseconds; clocks of two programs may differ a little.
    pub fn add_between(&mut self, span: Span, from_ms: u64, to_ms: u64) {
        self.add(span, Duration::from_millis(to_ms.saturating_sub(from_ms)));
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut table =
            format!("{:<48}{:>6}{:>11}{:>11}{:>11}\n", "", "times", "fastest", "median", "slowest");
        for (span, what) in Span::ALL {
            let mut took: Vec<Duration> =
                self.0.iter().filter(|(one, _)| *one == span).map(|(_, took)| *took).collect();
            took.sort_unstable();
            let (Some(fastest), Some(slowest)) = (took.first(), took.last()) else { continue };
            let median = took[(took.len() - 1) / 2];
            let [fastest, median, slowest] = [*fastest, median, *slowest].map(in_words);
            let count = took.len();
            writeln!(table, "{what:<48}{count:>6}{fastest:>11}{median:>11}{slowest:>11}")
                .expect("a String takes all text");
        }
        table
    }
}

/// `2.5 ms`, `117 ms`, `3.0 s`.
pub fn in_words(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_put_together_by_what_they_are() {
        let mut figures = Figures::default();
        for ms in [30, 10, 20, 1500] {
            figures.add(Span::Acknowledged, Duration::from_millis(ms));
        }
        figures.add_between(Span::Texted, 1_000, 1_007);
        figures.add_between(Span::Texted, 1_000, 999);
        let table = figures.table();
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[1][1..], ["4", "10 ms", "20 ms", "1.5 s"]);
        assert_eq!(lines[2][1..], ["2", "0.0 ms", "0.0 ms", "7.0 ms"]);
        assert_eq!(lines.len(), 3);
        assert!(table.lines().all(|line| line.chars().count() <= 98), "{table}");
    }
}
