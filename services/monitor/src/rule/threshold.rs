//! The thresholds of all rules: the tables of `config/monitor-rules.toml`, where each key is
//! explained, and which of them contradict each other.

use latchline_shared::alarm::{AlarmType, Severity};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::set::AlarmSet;

/// Thresholds of the rules, for some locks or for all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the tables of the document that explains them")]
pub struct RuleSet {
    pub battery_low: Level,
    pub battery_critical: Level,
    pub battery_forecast: Forecast,
    pub battery_drop: Drop,
    pub lock_fault: Plain,
    pub not_fully_locked: Delayed,
    pub stuck_moving: Delayed,
    pub left_unlocked: LeftUnlocked,
    pub state_unknown: Counted,
    pub door_forced: Plain,
    pub tamper: Plain,
    pub door_ajar: Ajar,
    pub wrong_code_limit: Plain,
    pub unlock_failed: Plain,
    pub command_no_result: Plain,
    pub device_offline: Offline,
    pub device_flapping: Flapping,
    pub invalid_report: Invalid,
    pub fleet_connectivity: Fleet,
    pub security: Security,
    /// The types that are switched off; follows from the others.
    #[serde(skip)]
    pub(super) off: AlarmSet,
}

/// `battery_low`, `battery_critical`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Level {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub raise_percent: f32,
    pub raise_reports: u8,
    pub end_percent: f32,
    pub end_reports: u8,
}

/// `battery_forecast`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Forecast {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub raise_days: f64,
    pub end_days: f64,
    pub empty_percent: f64,
    pub history_days: u16,
    pub new_points: f32,
    pub hours_min: u16,
    pub medians_min: u16,
    pub slope_min: f64,
    pub r2_min: f64,
}

/// `battery_drop`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Drop {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub fall_points: f32,
}

/// What has no threshold.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Plain {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
}

/// What must hold for some time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Delayed {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    #[serde(rename = "delay_s", deserialize_with = "seconds")]
    pub delay_ms: i64,
}

/// `left_unlocked`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct LeftUnlocked {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    #[serde(rename = "delay_s", deserialize_with = "seconds")]
    pub delay_ms: i64,
    pub worse_severity: Severity,
    #[serde(rename = "worse_after_s", deserialize_with = "seconds")]
    pub worse_after_ms: i64,
}

/// What must be reported several times.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Counted {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub raise_reports: u8,
}

/// `door_ajar`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Ajar {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    #[serde(rename = "delay_s", deserialize_with = "seconds")]
    pub delay_ms: i64,
    #[serde(rename = "end_delay_s", deserialize_with = "seconds")]
    pub end_delay_ms: i64,
}

/// `device_offline`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Offline {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    #[serde(rename = "silent_s", deserialize_with = "seconds")]
    pub silent_ms: i64,
    #[serde(rename = "hold_s", deserialize_with = "seconds")]
    pub hold_ms: i64,
    pub worse_severity: Severity,
    #[serde(rename = "worse_after_s", deserialize_with = "seconds")]
    pub worse_after_ms: i64,
    pub end_reports: u8,
    #[serde(rename = "watch_s", deserialize_with = "seconds")]
    pub watch_ms: i64,
}

/// `device_flapping`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Flapping {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub edges_min: u8,
    #[serde(rename = "window_s", deserialize_with = "seconds")]
    pub window_ms: i64,
}

/// `invalid_report`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Invalid {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub raise_reports: u8,
    #[serde(rename = "window_s", deserialize_with = "seconds")]
    pub window_ms: i64,
    pub end_reports: u8,
}

/// `fleet_connectivity`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Fleet {
    #[serde(deserialize_with = "severity")]
    pub severity: Option<Severity>,
    pub lost_max: u64,
    pub lost_percent: f64,
    pub lost_min: u64,
    #[serde(rename = "window_s", deserialize_with = "seconds")]
    pub window_ms: i64,
    #[serde(rename = "partition_silent_s", deserialize_with = "seconds")]
    pub partition_silent_ms: i64,
    pub partition_locks_min: u64,
    pub end_percent: f64,
    #[serde(rename = "end_delay_s", deserialize_with = "seconds")]
    pub end_delay_ms: i64,
}

/// `security_…`, by the rest of the type's word.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the keys of the document that explains them")]
pub struct Security {
    #[serde(deserialize_with = "severity")]
    pub bad_signature: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub bad_format: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub malformed: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub unverifiable: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub stale: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub future: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub nonce_conflict: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub replay: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub refused: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub unexpected_receiver: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub identity_mismatch: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub unauthorised_publisher: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub orphan_result: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub result_mismatch: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub process_id_reuse: Option<Severity>,
    #[serde(deserialize_with = "severity")]
    pub log_truncated: Option<Severity>,
}

impl RuleSet {
    /// How bad an alarm is when it is raised; `None` if it is switched off.
    pub fn severity(&self, alarm: AlarmType) -> Option<Severity> {
        use AlarmType as A;
        let security = &self.security;
        match alarm {
            A::BatteryLow => self.battery_low.severity,
            A::BatteryCritical => self.battery_critical.severity,
            A::BatteryForecast => self.battery_forecast.severity,
            A::BatteryDrop => self.battery_drop.severity,
            A::LockFault => self.lock_fault.severity,
            A::NotFullyLocked => self.not_fully_locked.severity,
            A::StuckMoving => self.stuck_moving.severity,
            A::LeftUnlocked => self.left_unlocked.severity,
            A::StateUnknown => self.state_unknown.severity,
            A::DoorForced => self.door_forced.severity,
            A::Tamper => self.tamper.severity,
            A::DoorAjar => self.door_ajar.severity,
            A::WrongCodeLimit => self.wrong_code_limit.severity,
            A::UnlockFailed => self.unlock_failed.severity,
            A::CommandNoResult => self.command_no_result.severity,
            A::DeviceOffline => self.device_offline.severity,
            A::DeviceFlapping => self.device_flapping.severity,
            A::FleetConnectivity => self.fleet_connectivity.severity,
            A::InvalidReport => self.invalid_report.severity,
            A::SecurityBadSignature => security.bad_signature,
            A::SecurityBadFormat => security.bad_format,
            A::SecurityMalformed => security.malformed,
            A::SecurityUnverifiable => security.unverifiable,
            A::SecurityStale => security.stale,
            A::SecurityFuture => security.future,
            A::SecurityNonceConflict => security.nonce_conflict,
            A::SecurityReplay => security.replay,
            A::SecurityRefused => security.refused,
            A::SecurityUnexpectedReceiver => security.unexpected_receiver,
            A::SecurityIdentityMismatch => security.identity_mismatch,
            A::SecurityUnauthorisedPublisher => security.unauthorised_publisher,
            A::SecurityOrphanResult => security.orphan_result,
            A::SecurityResultMismatch => security.result_mismatch,
            A::SecurityProcessIdReuse => security.process_id_reuse,
            A::SecurityLogTruncated => security.log_truncated,
        }
    }

    /// The types that are switched off.
    pub fn off(&self) -> AlarmSet {
        self.off
    }

    /// Whether a type is not switched off.
    pub fn is_on(&self, alarm: AlarmType) -> bool {
        !self.off.contains(alarm)
    }

    /// Notes down what follows from the other fields.
    pub(super) fn complete(mut self) -> Self {
        self.off = AlarmType::ALL.iter().copied().filter(|alarm| self.severity(*alarm).is_none()).collect();
        self
    }
}

/// A severity, or `off`.
fn severity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Severity>, D::Error> {
    let word = String::deserialize(deserializer)?;
    match word.as_str() {
        "off" => Ok(None),
        word => Severity::from_name(word).map(Some).ok_or_else(|| {
            D::Error::custom(format!("`{word}` is none of warning, minor, major, critical, off"))
        }),
    }
}

/// Seconds, as milliseconds. As many as fit 32 bits, so that no sum with a time overflows.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    u32::deserialize(deserializer).map(|seconds| i64::from(seconds) * 1_000)
}
