//! Thresholds that make no sense, alone or beside each other.

use latchline_shared::alarm::Severity;

use super::threshold::{Fleet, Forecast, Level, RuleSet};

/// Most edges, or unreadable reports, that are remembered of a lock.
pub const REMEMBERED_MAX: u8 = 32;

impl RuleSet {
    /// Adds every problem; `prefix` is the path of this set in the document.
    pub(super) fn problems(&self, prefix: &str, problems: &mut Vec<String>) {
        let check = &mut Check { prefix, problems };
        check.level("battery_low", &self.battery_low);
        check.level("battery_critical", &self.battery_critical);
        check.forecast(&self.battery_forecast);
        check.points("battery_drop.fall_points", self.battery_drop.fall_points);
        check.offline(self);
        check.fleet(&self.fleet_connectivity);

        let left = &self.left_unlocked;
        check.more("left_unlocked", "worse_after_s", left.worse_after_ms, "delay_s", left.delay_ms);
        check.worse("left_unlocked", left.severity, left.worse_severity);
        for (path, delay_ms) in [
            ("not_fully_locked.delay_s", self.not_fully_locked.delay_ms),
            ("stuck_moving.delay_s", self.stuck_moving.delay_ms),
            ("left_unlocked.delay_s", left.delay_ms),
            ("door_ajar.delay_s", self.door_ajar.delay_ms),
            ("device_flapping.window_s", self.device_flapping.window_ms),
            ("invalid_report.window_s", self.invalid_report.window_ms),
        ] {
            check.holds(path, delay_ms > 0, "must not be 0");
        }
        check.reports("state_unknown.raise_reports", self.state_unknown.raise_reports);
        check.reports("invalid_report.raise_reports", self.invalid_report.raise_reports);
        check.reports("invalid_report.end_reports", self.invalid_report.end_reports);
        let edges = self.device_flapping.edges_min;
        check.holds("device_flapping.edges_min", edges >= 2, "must not be less than 2");
        for (path, count) in [
            ("device_flapping.edges_min", edges),
            ("invalid_report.raise_reports", self.invalid_report.raise_reports),
        ] {
            let wrong = format!("must not be more than {REMEMBERED_MAX}");
            check.holds(path, count <= REMEMBERED_MAX, &wrong);
        }
    }
}

struct Check<'a> {
    prefix: &'a str,
    problems: &'a mut Vec<String>,
}

impl Check<'_> {
    fn holds(&mut self, path: &str, holds: bool, wrong: &str) {
        if !holds {
            self.problems.push(format!("{}{path}: {wrong}", self.prefix));
        }
    }

    fn percent(&mut self, path: &str, percent: f64) {
        self.holds(path, (0.0..=100.0).contains(&percent), "must be from 0 to 100");
    }

    fn points(&mut self, path: &str, points: f32) {
        self.holds(path, points > 0.0 && points <= 100.0, "must be more than 0, and not more than 100");
    }

    fn reports(&mut self, path: &str, count: u8) {
        self.holds(path, count > 0, "must not be 0");
    }

    /// What raises and what ends must be apart.
    fn more<T: PartialOrd>(&mut self, table: &str, key: &str, value: T, than: &str, other: T) {
        let wrong = format!("must be more than {}{table}.{than}", self.prefix);
        self.holds(&format!("{table}.{key}"), value > other, &wrong);
    }

    fn worse(&mut self, table: &str, severity: Option<Severity>, worse: Severity) {
        let is_milder = severity.is_some_and(|severity| worse < severity);
        let wrong = format!("must not be milder than {}{table}.severity", self.prefix);
        self.holds(&format!("{table}.worse_severity"), !is_milder, &wrong);
    }

    fn level(&mut self, table: &str, level: &Level) {
        self.percent(&format!("{table}.raise_percent"), f64::from(level.raise_percent));
        self.percent(&format!("{table}.end_percent"), f64::from(level.end_percent));
        self.reports(&format!("{table}.raise_reports"), level.raise_reports);
        self.reports(&format!("{table}.end_reports"), level.end_reports);
        self.more(table, "end_percent", level.end_percent, "raise_percent", level.raise_percent);
    }

    fn forecast(&mut self, forecast: &Forecast) {
        let table = "battery_forecast";
        self.holds(&format!("{table}.raise_days"), forecast.raise_days > 0.0, "must be more than 0");
        self.more(table, "end_days", forecast.end_days, "raise_days", forecast.raise_days);
        self.percent(&format!("{table}.empty_percent"), forecast.empty_percent);
        self.points(&format!("{table}.new_points"), forecast.new_points);
        self.holds(&format!("{table}.hours_min"), forecast.hours_min > 0, "must not be 0");
        self.holds(&format!("{table}.medians_min"), forecast.medians_min > 1, "must be more than 1");
        let hours = u32::from(forecast.history_days) * 24;
        let wrong = format!("must not be shorter than {}{table}.hours_min", self.prefix);
        self.holds(&format!("{table}.history_days"), hours >= u32::from(forecast.hours_min), &wrong);
        self.holds(&format!("{table}.slope_min"), forecast.slope_min >= 0.0, "must not be less than 0");
        self.holds(&format!("{table}.r2_min"), (0.0..=1.0).contains(&forecast.r2_min), "must be from 0 to 1");
    }

    fn offline(&mut self, rules: &RuleSet) {
        let offline = &rules.device_offline;
        let table = "device_offline";
        self.holds(&format!("{table}.silent_s"), offline.silent_ms > 0, "must not be 0");
        let raised_ms = offline.silent_ms + offline.hold_ms;
        self.more(table, "worse_after_s", offline.worse_after_ms, "silent_s and hold_s together", raised_ms);
        self.worse(table, offline.severity, offline.worse_severity);
        self.reports(&format!("{table}.end_reports"), offline.end_reports);
    }

    fn fleet(&mut self, fleet: &Fleet) {
        let table = "fleet_connectivity";
        self.percent(&format!("{table}.lost_percent"), fleet.lost_percent);
        self.percent(&format!("{table}.end_percent"), fleet.end_percent);
        self.more(table, "lost_percent", fleet.lost_percent, "end_percent", fleet.end_percent);
        self.holds(&format!("{table}.window_s"), fleet.window_ms > 0, "must not be 0");
        let silent = fleet.partition_silent_ms > 0;
        self.holds(&format!("{table}.partition_silent_s"), silent, "must not be 0");
    }
}
