//! What a report says, family by family.

use latchline_shared::alarm::AlarmType;
use latchline_shared::lock_state::{LockState, Reading};
use latchline_shared::report::{Report, Said};
use latchline_shared::text::bounded;
use serde_json::{Value, json};

use super::Lock;
use super::memory::{Fall, Since};
use crate::rule::forecast::Forecast;
use crate::rule::set::AlarmSet;
use crate::rule::threshold::RuleSet;
use crate::rule::{Step, battery, bolt, door, forecast, presence, report, result};
use crate::signal::{Signal, What};

const HOUR_MS: i64 = 3_600_000;

/// Hours since 1970.
pub(super) fn hour_of(at_ms: i64) -> u32 {
    u32::try_from(at_ms.div_euclid(HOUR_MS).max(0)).unwrap_or(u32::MAX)
}

impl Lock {
    /// Whether the battery should be looked at now: once a day, at an hour that follows from the id,
    /// so that a fleet's are spread over the day.
    pub fn is_forecast_due(&self, rules: &RuleSet, client_id: &str, at_ms: i64) -> bool {
        let hour = result::hash(client_id) % 24;
        let day = |hours: u32| (u64::from(hours) + 24 - hour) / 24;
        let is_due = day(hour_of(at_ms)) > day(self.memory.forecast);
        is_due && self.battery.is_some() && rules.is_on(AlarmType::BatteryForecast)
    }

    /// Applies what was foretold of the battery, or that nothing could be.
    pub fn forecast(
        &mut self,
        rules: &RuleSet,
        forecast: Option<Forecast>,
        at_ms: i64,
        signals: &mut Vec<Signal>,
    ) {
        let alarm = AlarmType::BatteryForecast;
        self.pass(rules, at_ms, signals);
        self.memory.forecast = hour_of(at_ms);
        let is_raised = self.memory.raised.contains(alarm);
        let step = forecast::step(is_raised, forecast.as_ref(), &rules.battery_forecast);
        let percent = self.battery.map(rounded);
        let value = || match forecast {
            Some(Forecast { days, slope_per_day, .. }) => {
                json!({ "battery": percent, "days": round(days, 10.0), "percent_per_day": round(slope_per_day, 100.0) })
            }
            None => json!({ "battery": percent }),
        };
        let mut tell = Self::tell(&mut self.memory.raised, rules, at_ms, signals);
        if is_raised && step == Step::Stay {
            tell.signal(alarm, What::Hold, value());
        }
        tell.step(alarm, step, value);
    }

    /// Lays a report over what is known.
    pub(super) fn observe(
        &mut self,
        rules: &RuleSet,
        reading: Reading,
        report: &Report,
        at_ms: i64,
        signals: &mut Vec<Signal>,
    ) {
        match report.flaws.as_slice() {
            [] => self.flawless(rules, at_ms, signals),
            flaws => self.flaw(rules, at_ms, flaws, signals),
        }
        if self.state != reading.state {
            (self.state, self.since_ms) = (reading.state, at_ms);
        }
        self.state_raw = Some(report.lock_state);
        self.close_hour(at_ms);
        if let Some(percent) = report.battery {
            self.observe_battery(rules, percent, at_ms, signals);
        }
        self.observe_bolt(rules, at_ms, signals);
        self.observe_door(rules, report, at_ms, signals);
        self.observe_result(rules, report, at_ms, signals);
    }

    fn observe_battery(&mut self, rules: &RuleSet, percent: f32, at_ms: i64, signals: &mut Vec<Signal>) {
        let before = self.battery.replace(percent);
        let before_at_ms = self.battery_at_ms.replace(at_ms);
        self.observe_fall(rules, percent, before.zip(before_at_ms), at_ms, signals);
        self.memory.readings.put(at_ms, battery::tenths(percent));
        self.memory.measured = true;

        let memory = &mut self.memory;
        let raised = memory.raised;
        let mut tell = Self::tell(&mut memory.raised, rules, at_ms, signals);
        let value = || json!({ "battery": rounded(percent) });
        let alarm = AlarmType::BatteryLow;
        let step = battery::level(percent, raised.contains(alarm), &mut memory.low, &rules.battery_low);
        tell.step(alarm, step, value);
        let alarm = AlarmType::BatteryCritical;
        let step =
            battery::level(percent, raised.contains(alarm), &mut memory.critical, &rules.battery_critical);
        tell.step(alarm, step, value);
        if before.is_some_and(|before| forecast::is_new(before, percent, &rules.battery_forecast)) {
            tell.end(AlarmType::BatteryForecast, value);
        }
    }

    fn observe_fall(
        &mut self,
        rules: &RuleSet,
        percent: f32,
        before: Option<(f32, i64)>,
        at_ms: i64,
        signals: &mut Vec<Signal>,
    ) {
        let memory = &mut self.memory;
        let tenths = battery::tenths(percent);
        let last = before.filter(|(_, before_at_ms)| at_ms.saturating_sub(*before_at_ms) < HOUR_MS);
        let fall = memory.rare.as_deref().and_then(|rare| rare.fall);
        let fallen =
            memory.readings.fall(at_ms, tenths, last.map(|(before, _)| battery::tenths(before)), fall);
        if f32::from(fallen) <= rules.battery_drop.fall_points * 10.0 {
            return;
        }
        memory.rare_mut().fall = Some(Fall { slot: battery::slot(at_ms), tenths });
        let value = || json!({ "battery": rounded(percent), "fell": f64::from(fallen) / 10.0 });
        Self::tell(&mut memory.raised, rules, at_ms, signals).occur(AlarmType::BatteryDrop, value);
    }

    /// A finished hour waits until it is taken; one whose lock was silent may meet the next.
    fn close_hour(&mut self, at_ms: i64) {
        if !self.memory.measured {
            return;
        }
        if let Some(hour) = self.memory.readings.finished(at_ms) {
            self.memory.measured = false;
            self.memory.rare_mut().hours.push(hour);
        }
    }

    fn observe_bolt(&mut self, rules: &RuleSet, at_ms: i64, signals: &mut Vec<Signal>) {
        let (state, raw) = (self.state, self.state_raw);
        let memory = &mut self.memory;
        let steps = [
            (AlarmType::LockFault, bolt::fault(state)),
            (AlarmType::NotFullyLocked, bolt::partial(&mut memory.partial, state, at_ms)),
            (AlarmType::StuckMoving, bolt::moving(&mut memory.moving, state, at_ms)),
            (AlarmType::LeftUnlocked, bolt::open(&mut memory.open, state, at_ms)),
            (
                AlarmType::StateUnknown,
                bolt::unknown(&mut memory.unknown, state, rules.state_unknown.raise_reports),
            ),
        ];
        if memory.open.is_none() {
            memory.open_worse = false;
        }
        let mut tell = Self::tell(&mut memory.raised, rules, at_ms, signals);
        for (alarm, step) in steps {
            tell.step(alarm, step, || bolt_value(state, raw));
        }
    }

    fn observe_door(&mut self, rules: &RuleSet, report: &Report, at_ms: i64, signals: &mut Vec<Signal>) {
        let memory = &mut self.memory;
        let door = door::Door::see(&mut memory.door, report.door_state, report.alarm);
        door.ajar(memory.raised.contains(AlarmType::DoorAjar), &mut memory.ajar, at_ms);
        let mut tell = Self::tell(&mut memory.raised, rules, at_ms, signals);
        tell.step(AlarmType::DoorForced, door.forced(), || door.value());
        tell.step(AlarmType::Tamper, door.tamper(), || door.value());
        if door.wrong_code(&mut memory.wrong_code) {
            tell.occur(AlarmType::WrongCodeLimit, || door.value());
        }
    }

    fn observe_result(&mut self, rules: &RuleSet, report: &Report, at_ms: i64, signals: &mut Vec<Signal>) {
        let memory = &mut self.memory;
        let is_first = memory.process == 0;
        let Some(said) = result::result(&mut memory.process, report, self.state) else { return };
        memory.result_at = Since::at(at_ms);
        let value = || {
            let mut value = json!({ "process_id": bounded(&report.process_id), "action": bounded(&report.action), "result": said.name() });
            if let Some(error) = report.error {
                value["error"] = error.into();
            }
            value
        };
        let alarm = AlarmType::CommandNoResult;
        // What was found before the lock was known is not remembered here.
        if is_first && rules.is_on(alarm) {
            memory.raised.insert(alarm);
        }
        let mut tell = Self::tell(&mut memory.raised, rules, at_ms, signals);
        tell.end(alarm, value);
        let step = if said == Said::Ok { Step::End } else { Step::Begin };
        tell.step(AlarmType::UnlockFailed, step, value);
    }
}

impl Lock {
    /// Tells the values of what holds on.
    pub(super) fn hold(
        &mut self,
        rules: &RuleSet,
        before: AlarmSet,
        code: Option<i64>,
        at_ms: i64,
        signals: &mut Vec<Signal>,
    ) {
        for alarm in before.both(self.memory.raised).iter().filter(|alarm| is_seen_again(*alarm)) {
            let value = self.value(alarm, code);
            Self::tell(&mut self.memory.raised, rules, at_ms, signals).signal(alarm, What::Hold, value);
        }
    }

    /// Gives memory back that is not needed any more.
    pub(super) fn forget(&mut self, rules: &RuleSet, at_ms: i64) {
        let Some(rare) = self.memory.rare.as_deref_mut() else { return };
        presence::forget(&mut rare.edges, at_ms, &rules.device_flapping);
        report::forget(&mut rare.invalid, at_ms, &rules.invalid_report);
        rare.fall = rare.fall.filter(|fall| !battery::is_forgotten(*fall, at_ms));
        self.memory.drop_empty_rare();
    }

    /// A report that cannot be read, or parts of it.
    pub(super) fn flaw(&mut self, rules: &RuleSet, at_ms: i64, flaws: &[&str], signals: &mut Vec<Signal>) {
        self.memory.good = 0;
        let step = report::invalid(&mut self.memory.rare_mut().invalid, at_ms, &rules.invalid_report);
        let value = || json!({ "flaws": flaws });
        Self::tell(&mut self.memory.raised, rules, at_ms, signals).step(
            AlarmType::InvalidReport,
            step,
            value,
        );
    }

    fn flawless(&mut self, rules: &RuleSet, at_ms: i64, signals: &mut Vec<Signal>) {
        let alarm = AlarmType::InvalidReport;
        let memory = &mut self.memory;
        let step = report::good(memory.raised.contains(alarm), &mut memory.good, &rules.invalid_report);
        if let (Step::End, Some(rare)) = (step, memory.rare.as_deref_mut()) {
            // It takes as many again, not one.
            rare.invalid.clear();
        }
        Self::tell(&mut memory.raised, rules, at_ms, signals).step(alarm, step, || json!({ "flaws": [] }));
    }

    /// What is known of a condition that reports tell again and again; `code` is the report's alarm.
    pub(super) fn value(&self, alarm: AlarmType, code: Option<i64>) -> Value {
        match alarm {
            AlarmType::BatteryLow | AlarmType::BatteryCritical => {
                json!({ "battery": self.battery.map(rounded) })
            }
            AlarmType::DoorForced | AlarmType::Tamper | AlarmType::DoorAjar => {
                door::Door::remembered(self.memory.door, code).value()
            }
            AlarmType::LeftUnlocked => {
                let mut value = bolt_value(self.state, self.state_raw);
                value["since"] = self.memory.open.get().into();
                value
            }
            _ => bolt_value(self.state, self.state_raw),
        }
    }
}

/// Whether reports tell again and again that the condition holds.
fn is_seen_again(alarm: AlarmType) -> bool {
    use AlarmType as A;
    matches!(
        alarm,
        A::BatteryLow
            | A::BatteryCritical
            | A::LockFault
            | A::NotFullyLocked
            | A::StuckMoving
            | A::LeftUnlocked
            | A::StateUnknown
            | A::DoorForced
            | A::Tamper
            | A::DoorAjar
    )
}

fn bolt_value(state: LockState, raw: Option<i64>) -> Value {
    json!({ "lock_state": state.name(), "lock_state_raw": raw })
}

/// As exact as locks measure.
fn rounded(percent: f32) -> f64 {
    round(f64::from(percent), 10.0)
}

fn round(number: f64, parts: f64) -> f64 {
    (number * parts).round() / parts
}
