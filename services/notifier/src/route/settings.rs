//! The tables `[defaults]`, `[limits]` and `[expiry]`.

use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use serde::Deserialize;

use super::rate::Rate;
use crate::event::{Channel, EventType, Severity};

/// What holds for a user who has not chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Told only to those who asked for them by name.
    pub only_by_name: Vec<EventType>,
    /// E-mail.
    pub email: Standard,
    /// SMS.
    pub sms: Standard,
    /// Webhook.
    pub webhook: Standard,
}

/// What holds on one channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standard {
    /// Whether anything is told.
    pub enabled: bool,
    /// Only what is as bad as that.
    pub min_severity: Severity,
}

impl Defaults {
    /// What holds on this channel.
    pub fn of(&self, channel: Channel) -> &Standard {
        match channel {
            Channel::Email => &self.email,
            Channel::Sms => &self.sms,
            Channel::Webhook => &self.webhook,
        }
    }
}

/// How much is too much.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Messages to one address in a minute …
    pub contact_per_minute: u32,
    /// … and at once.
    pub contact_burst: u32,
    /// Messages to one address about one lock and one type of event in a minute …
    pub lock_per_minute: u32,
    /// … and at once.
    pub lock_burst: u32,
    /// What is beyond is told together after so long.
    #[serde(rename = "overflow_digest_s", deserialize_with = "value::seconds")]
    pub overflow_digest: Duration,
}

impl Limits {
    /// Of one address.
    pub fn contact(&self) -> Rate {
        Rate { per_minute: self.contact_per_minute, burst: self.contact_burst }
    }
}

impl Validate for Limits {
    fn problems(&self, problems: &mut Vec<String>) {
        for (name, value) in [
            ("contact_per_minute", self.contact_per_minute),
            ("contact_burst", self.contact_burst),
            ("lock_per_minute", self.lock_per_minute),
            ("lock_burst", self.lock_burst),
        ] {
            if value == 0 {
                problems.push(format!("limits.{name}: must not be 0"));
            }
        }
        check("limits.overflow_digest_s", self.overflow_digest, problems);
    }
}

/// How long it makes sense to tell of an event.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expiry {
    /// E-mail.
    pub email: Lifetimes,
    /// SMS.
    pub sms: Lifetimes,
    /// Webhook.
    pub webhook: Lifetimes,
}

/// How long, by severity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetimes {
    #[serde(rename = "info_s", deserialize_with = "value::seconds")]
    info: Duration,
    #[serde(rename = "warning_s", deserialize_with = "value::seconds")]
    warning: Duration,
    #[serde(rename = "major_s", deserialize_with = "value::seconds")]
    major: Duration,
    #[serde(rename = "critical_s", deserialize_with = "value::seconds")]
    critical: Duration,
}

impl Expiry {
    /// How long it makes sense to tell of what is so bad.
    pub fn of(&self, channel: Channel, severity: Severity) -> Duration {
        let lifetimes = self.lifetimes(channel);
        match severity {
            Severity::Info => lifetimes.info,
            Severity::Warning | Severity::Minor => lifetimes.warning,
            Severity::Major => lifetimes.major,
            Severity::Critical => lifetimes.critical,
        }
    }

    fn lifetimes(&self, channel: Channel) -> &Lifetimes {
        match channel {
            Channel::Email => &self.email,
            Channel::Sms => &self.sms,
            Channel::Webhook => &self.webhook,
        }
    }
}

impl Validate for Expiry {
    fn problems(&self, problems: &mut Vec<String>) {
        for channel in Channel::ALL {
            let Lifetimes { info, warning, major, critical } = self.lifetimes(*channel);
            for (name, lifetime) in
                [("info_s", info), ("warning_s", warning), ("major_s", major), ("critical_s", critical)]
            {
                check(&format!("expiry.{channel}.{name}"), *lifetime, problems);
            }
        }
    }
}

/// Times are computed with: nothing is longer than a month.
fn check(name: &str, duration: Duration, problems: &mut Vec<String>) {
    if duration.is_zero() || duration > Duration::from_secs(31 * 86_400) {
        problems.push(format!("{name}: must be from 1 to 2678400"));
    }
}
