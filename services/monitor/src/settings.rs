//! The configuration of the process. `config/monitor.toml` at the repository root is its default,
//! reference and schema: each key is explained there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::Api;
use latchline_shared::kit::kafka::consumer::config::Consumer;
use latchline_shared::kit::postgres::prepare::Database;
use latchline_shared::kit::run;
use latchline_shared::kit::telemetry::Log;
use latchline_shared::lock_state::Profiles;
use serde::Deserialize;

use crate::alarm::{Context, Timing};
use crate::http::Limits;
use crate::webhook;

/// The default document.
pub const DEFAULT_TOML: &str = include_str!("../../../config/monitor.toml");

/// The table of changes on their way to the alarm stream.
pub const OUTBOX: &str = "outbox";

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// From the wish to end to the end.
    #[serde(rename = "shutdown_deadline_ms", deserialize_with = "value::milliseconds")]
    pub shutdown_deadline: Duration,
    /// What is read and what is written.
    pub streams: Streams,
    /// How it is read.
    pub consumer: Consumer,
    /// Where all of it is kept.
    pub postgres: Database,
    /// Thresholds.
    pub rules: RulesFile,
    /// How locks number their states.
    pub profiles: Profiles,
    /// How long things may stay as they are.
    pub alarms: Alarms,
    /// Who else hears of alarms.
    pub webhook: webhook::settings::Settings,
    /// Admin routes and API.
    pub http: Api,
    /// Bounds of the API.
    pub api: Limits,
    /// Logs.
    pub log: Log,
}

impl Settings {
    /// What applies to all alarms.
    pub fn context(&self) -> Context {
        let Alarms { escalate_after, announce_every, expire_after, .. } = self.alarms;
        Context {
            outbox: self.streams.alarms.is_some().then(|| OUTBOX.to_owned()),
            webhook: self.webhook.url.is_some(),
            timing: Timing { escalate_after, announce_every, expire_after },
        }
    }
}

/// The `[streams]` table: which stream holds what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// What locks report (`message.publish` of `devices/+/state`).
    pub states: String,
    /// What the auditor found.
    #[serde(deserialize_with = "value::optional")]
    pub findings: Option<String>,
    /// Where every change of an alarm goes.
    #[serde(deserialize_with = "value::optional")]
    pub alarms: Option<String>,
}

impl Streams {
    /// Those that are read.
    pub fn read(&self) -> Vec<String> {
        std::iter::once(&self.states).chain(&self.findings).cloned().collect()
    }
}

/// The `[rules]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RulesFile {
    /// File of thresholds; without one all are those of the default.
    #[serde(deserialize_with = "value::optional")]
    pub file: Option<PathBuf>,
}

/// The `[alarms]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarms {
    /// How long records may be on their way: so far are delays behind the clock.
    #[serde(rename = "grace_ms", deserialize_with = "value::milliseconds")]
    pub grace: Duration,
    /// From telling a bad alarm to telling others if nobody has acknowledged it.
    #[serde(rename = "escalate_after_s", deserialize_with = "value::seconds")]
    pub escalate_after: Duration,
    /// A critical alarm is told again so often.
    #[serde(rename = "announce_every_s", deserialize_with = "value::seconds")]
    pub announce_every: Duration,
    /// An alarm whose condition is over is closed after so long.
    #[serde(rename = "expire_after_s", deserialize_with = "value::seconds")]
    pub expire_after: Duration,
}

impl Alarms {
    fn problems(&self, problems: &mut Vec<String>) {
        for (name, duration) in [
            ("escalate_after_s", self.escalate_after),
            ("announce_every_s", self.announce_every),
            ("expire_after_s", self.expire_after),
        ] {
            if duration.is_zero() {
                problems.push(format!("alarms.{name}: must not be 0"));
            }
        }
        if self.grace > Duration::from_secs(60) {
            problems.push("alarms.grace_ms: must not be more than 60000".to_owned());
        }
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        self.consumer.problems("consumer", problems);
        self.postgres.server.problems(problems);
        value::check_readable("rules.file", self.rules.file.as_deref(), problems);
        self.alarms.problems(problems);
        self.webhook.problems(problems);
        self.http.problems(problems);
        self.api.problems(problems);
        self.log.problems(problems);
    }
}

impl run::Settings for Settings {
    fn log(&self) -> &Log {
        &self.log
    }

    fn shutdown_deadline(&self) -> Duration {
        self.shutdown_deadline
    }

    fn http_address(&self) -> Option<SocketAddr> {
        self.http.server.address
    }
}

#[cfg(test)]
mod tests {
    use latchline_shared::kit::config;

    use super::*;

    #[test]
    fn the_default_document_is_valid_and_has_no_needless_keys() {
        config::load::<Settings>(DEFAULT_TOML, None, "LATCHLINE_MONITOR", std::iter::empty()).unwrap();
        assert_eq!(config::needless_keys::<Settings>(DEFAULT_TOML), Ok(Vec::new()));
    }
}
