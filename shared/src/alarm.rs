//! Alarms: their types, severities and states (ISA-18.2, OPC 10000-9), and the record of a change
//! that the monitor publishes and the notifier reads.
//!
//! An alarm says that a condition of a lock needs somebody. There is one open alarm for each lock
//! and type. What became of the condition and what people did about it are two things: an alarm
//! whose condition is gone stays open until somebody has seen it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::words;

words! {
    /// What is wrong.
    AlarmType {
        /// The battery is low.
        BatteryLow = "battery_low",
        /// The battery is nearly empty.
        BatteryCritical = "battery_critical",
        /// The battery will be nearly empty soon, as it has been draining.
        BatteryForecast = "battery_forecast",
        /// The battery fell faster than batteries do.
        BatteryDrop = "battery_drop",
        /// The motor is blocked.
        LockFault = "lock_fault",
        /// The bolt is between its ends.
        NotFullyLocked = "not_fully_locked",
        /// The bolt is on its way and does not arrive.
        StuckMoving = "stuck_moving",
        /// Nobody has locked again.
        LeftUnlocked = "left_unlocked",
        /// The lock does not know its state, or we do not know the number.
        StateUnknown = "state_unknown",
        /// The door was forced open.
        DoorForced = "door_forced",
        /// Somebody took the lock's cover off.
        Tamper = "tamper",
        /// The door is ajar.
        DoorAjar = "door_ajar",
        /// Wrong codes were entered until the lock refused more.
        WrongCodeLimit = "wrong_code_limit",
        /// A command did not do what it should.
        UnlockFailed = "unlock_failed",
        /// The lock did not say what became of a command.
        CommandNoResult = "command_no_result",
        /// The lock has fallen silent.
        DeviceOffline = "device_offline",
        /// The lock comes and goes.
        DeviceFlapping = "device_flapping",
        /// Many locks fell silent at once: it is not the locks.
        FleetConnectivity = "fleet_connectivity",
        /// What the lock reports cannot be read.
        InvalidReport = "invalid_report",
        /// A command with a wrong signature: forged.
        SecurityBadSignature = "security_bad_signature",
        /// A command without a signature of the right form.
        SecurityBadFormat = "security_bad_format",
        /// A command that is none.
        SecurityMalformed = "security_malformed",
        /// A command for which there is no key.
        SecurityUnverifiable = "security_unverifiable",
        /// A command that was signed too long ago.
        SecurityStale = "security_stale",
        /// A command that was signed in the future.
        SecurityFuture = "security_future",
        /// A nonce used for two commands.
        SecurityNonceConflict = "security_nonce_conflict",
        /// A command sent again by somebody who had overheard it.
        SecurityReplay = "security_replay",
        /// A command was refused by the broker's access rules.
        SecurityRefused = "security_refused",
        /// Somebody else got a lock's command.
        SecurityUnexpectedReceiver = "security_unexpected_receiver",
        /// Somebody spoke for another lock.
        SecurityIdentityMismatch = "security_identity_mismatch",
        /// A command of somebody who may not send any.
        SecurityUnauthorisedPublisher = "security_unauthorised_publisher",
        /// The result of a command that nobody delivered.
        SecurityOrphanResult = "security_orphan_result",
        /// A result that contradicts its command.
        SecurityResultMismatch = "security_result_mismatch",
        /// Two commands share a process.
        SecurityProcessIdReuse = "security_process_id_reuse",
        /// Records were deleted before the auditor had read them.
        SecurityLogTruncated = "security_log_truncated",
    }
}

impl AlarmType {
    /// Whether the condition is over in the moment in which it is noticed, so that only people can
    /// end the alarm.
    pub fn is_momentary(self) -> bool {
        matches!(self, Self::BatteryDrop | Self::WrongCodeLimit) || self.name().starts_with("security_")
    }

    /// Whether the alarm stays active, its condition over, until somebody acknowledges it.
    pub fn is_latched(self) -> bool {
        self.is_momentary() || matches!(self, Self::DoorForced | Self::Tamper)
    }

    /// The types that say more: while one of them is open for the same lock, this one is not told.
    pub fn inhibited_by(self) -> &'static [Self] {
        match self {
            Self::BatteryForecast => &[Self::BatteryLow, Self::BatteryCritical],
            Self::BatteryLow => &[Self::BatteryCritical],
            Self::NotFullyLocked | Self::StuckMoving | Self::StateUnknown => &[Self::LockFault],
            Self::DoorAjar => &[Self::DoorForced],
            Self::LeftUnlocked => &[Self::DoorForced, Self::DeviceOffline],
            Self::DeviceOffline => &[Self::DeviceFlapping],
            _ => &[],
        }
    }
}

words! {
    /// How bad it is (ITU-T X.733), from little to much.
    Severity {
        /// Should be looked at.
        Warning = "warning",
        /// Needs work, not now.
        Minor = "minor",
        /// Needs somebody soon.
        Major = "major",
        /// Needs somebody now.
        Critical = "critical",
    }
}

words! {
    /// Where an alarm stands. A pending one is a condition whose delay is running: it is not raised
    /// yet and has no record; all others have.
    State {
        /// The condition holds, but not for long enough yet.
        Pending = "pending",
        /// Raised, and nobody has acknowledged it.
        Active = "active",
        /// Somebody knows; the condition still holds.
        Acknowledged = "acknowledged",
        /// The condition is over, and nobody has acknowledged it.
        Cleared = "cleared",
        /// Over. The next time is another alarm.
        Closed = "closed",
    }
}

words! {
    /// What happened to an alarm.
    Change {
        /// It was raised.
        Raised = "raised",
        /// Its condition came again while it was open.
        Repeated = "repeated",
        /// It became worse.
        Worsened = "worsened",
        /// Its condition is over.
        ReturnedToNormal = "returned_to_normal",
        /// Somebody took it on.
        Acknowledged = "acknowledged",
        /// Somebody gave it back.
        Unacknowledged = "unacknowledged",
        /// Somebody does not want to hear of it for a while.
        Shelved = "shelved",
        /// That while is over.
        Unshelved = "unshelved",
        /// Somebody ended it.
        Cleared = "cleared",
        /// Somebody wrote something.
        Commented = "commented",
        /// Nobody took it on in time.
        Escalated = "escalated",
        /// It is told again, or for the first time after nobody wanted to hear of it.
        Announced = "announced",
        /// Nobody acknowledged it for long after its condition was over.
        Expired = "expired",
    }
}

words! {
    /// What made a change.
    Origin {
        /// What a lock reported; the same reports make the same changes again.
        Report = "report",
        /// What the auditor found.
        Finding = "finding",
        /// What did not happen in time, by the clock of whoever watched.
        Clock = "clock",
        /// Somebody.
        Operator = "operator",
    }
}

/// A record of the alarm stream: one change of one alarm. Its key is the lock, or `fleet` for an
/// alarm of none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmRecord {
    /// Id of the change: the same if the record is stored twice (UUID).
    pub event_id: String,
    /// Id of the alarm (UUID).
    pub alarm_id: String,
    /// Number of the change, from 1 without gap for each alarm.
    pub no: i32,
    /// The lock; empty for an alarm of the fleet.
    pub client_id: String,
    /// What is wrong.
    #[serde(rename = "type")]
    pub alarm_type: AlarmType,
    /// How bad it is now.
    pub severity: Severity,
    /// What happened.
    pub change: Change,
    /// State before; none if the alarm was raised.
    pub from: Option<State>,
    /// State after.
    pub to: State,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// When the alarm was raised, in Unix milliseconds.
    pub raised_at: i64,
    /// What made the change.
    pub origin: Origin,
    /// Who: the name of a token, or `monitor`.
    pub actor: String,
    /// Why: what is known of it, by origin.
    pub cause: Value,
    /// The last value that was looked at.
    pub value: Value,
    /// How often the condition came.
    pub count: i32,
    /// How often it was escalated.
    pub level: i16,
    /// Whether somebody should be told.
    pub notify: bool,
    /// Why nobody should be told though somebody usually is: `shelved`, `silence:ID`,
    /// `inhibited:TYPE`.
    pub suppressed_by: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_back() {
        for alarm in AlarmType::ALL {
            assert_eq!(AlarmType::from_name(alarm.name()), Some(*alarm));
            assert_eq!(serde_json::to_value(alarm).unwrap(), alarm.name());
        }
        assert_eq!(AlarmType::from_name("burning"), None);
        assert!(Severity::Warning < Severity::Minor && Severity::Major < Severity::Critical);
    }

    #[test]
    fn what_is_over_at_once_is_ended_by_people() {
        for alarm in AlarmType::ALL {
            assert!(!alarm.is_momentary() || alarm.is_latched(), "{alarm}");
        }
        assert!(AlarmType::SecurityReplay.is_momentary() && !AlarmType::Tamper.is_momentary());
    }

    #[test]
    fn inhibition_has_no_circle() {
        fn depth(alarm: AlarmType, path: &mut Vec<AlarmType>) {
            assert!(!path.contains(&alarm), "{path:?}");
            path.push(alarm);
            for other in alarm.inhibited_by() {
                depth(*other, path);
            }
            path.pop();
        }
        for alarm in AlarmType::ALL {
            depth(*alarm, &mut Vec::new());
        }
    }
}
