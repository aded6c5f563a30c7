//! The configuration of the process. `config/notifier.toml` at the repository root is its default,
//! reference and schema: each key is explained there. Whoever a table is about has its type.

use std::net::SocketAddr;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::Api;
use latchline_shared::kit::kafka::consumer::config::Consumer;
use latchline_shared::kit::postgres::prepare::Database;
use latchline_shared::kit::run;
use latchline_shared::kit::telemetry::Log;
use latchline_shared::lock_state::Profiles;
use serde::Deserialize;

use crate::channel::{email, sms, webhook};
use crate::directory::Choices;
use crate::route::Rules;
use crate::route::settings::{Defaults, Expiry, Limits};
use crate::template::Templates;
use crate::{delivery, http, seed, template};

/// The default document.
pub const DEFAULT_TOML: &str = include_str!("../../../config/notifier.toml");

/// The whole configuration.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// From the wish to end to the end.
    #[serde(rename = "shutdown_deadline_ms", deserialize_with = "value::milliseconds")]
    pub shutdown_deadline: Duration,
    /// What is read.
    pub streams: Streams,
    /// How it is read.
    pub consumer: Consumer,
    /// Where all of it is kept.
    pub postgres: Database,
    /// How locks number their states.
    pub profiles: Profiles,
    /// For users who have not chosen.
    pub defaults: Defaults,
    /// How much is too much.
    pub limits: Limits,
    /// How long it makes sense to tell of an event.
    pub expiry: Expiry,
    /// From one attempt to the next.
    pub retry: delivery::settings::Settings,
    /// E-mail.
    pub email: email::settings::Settings,
    /// SMS.
    pub sms: sms::settings::Settings,
    /// Webhooks.
    pub webhook: webhook::settings::Settings,
    /// Words.
    pub templates: template::settings::Settings,
    /// People who are put in at every start.
    pub seed: seed::Settings,
    /// How long what was told is kept.
    pub retention: Retention,
    /// Admin routes and API.
    pub http: Api,
    /// Bounds of the API.
    pub api: http::Limits,
    /// Logs.
    pub log: Log,
}

impl Settings {
    /// What users may choose.
    fn choices(&self) -> anyhow::Result<Choices> {
        Choices::new(&Templates::load(self.templates.folder.as_deref())?, &self.webhook.allowed_networks)
    }

    /// What the route follows.
    pub fn rules(&self) -> Rules {
        Rules {
            defaults: self.defaults.clone(),
            limits: self.limits.clone(),
            expiry: self.expiry.clone(),
            retention: self.retention.notifications(),
        }
    }
}

/// The `[streams]` table: which stream holds what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Streams {
    /// What locks report (`message.publish` of `devices/+/state`).
    pub states: String,
    /// Changes of alarms.
    #[serde(deserialize_with = "value::optional")]
    pub alarms: Option<String>,
}

impl Streams {
    /// Those that are read.
    pub fn read(&self) -> Vec<String> {
        std::iter::once(&self.states).chain(&self.alarms).cloned().collect()
    }
}

impl Validate for Streams {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.states.is_empty() {
            problems.push("streams.states: must not be empty".to_owned());
        }
        if self.alarms.as_ref() == Some(&self.states) {
            problems.push("streams.alarms: must not be streams.states".to_owned());
        }
    }
}

/// The `[retention]` table.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Of notifications whose status is final, and of all that knows them again.
    pub notifications_days: u16,
}

impl Retention {
    /// How long.
    pub fn notifications(self) -> Duration {
        Duration::from_secs(u64::from(self.notifications_days) * 86_400)
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        self.streams.problems(problems);
        self.consumer.problems("consumer", problems);
        self.postgres.server.problems(problems);
        self.limits.problems(problems);
        self.expiry.problems(problems);
        self.retry.problems(problems);
        self.email.problems(problems);
        self.sms.problems(problems);
        self.webhook.problems(problems);
        self.templates.problems(problems);
        // Else it is said above what is wrong with the words or the networks.
        if let Ok(choices) = self.choices() {
            self.seed.problems(&choices, problems);
        }
        if self.retention.notifications_days == 0 {
            problems.push("retention.notifications_days: must not be 0".to_owned());
        }
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
        config::load::<Settings>(DEFAULT_TOML, None, "LATCHLINE_NOTIFIER", std::iter::empty()).unwrap();
        assert_eq!(config::needless_keys::<Settings>(DEFAULT_TOML), Ok(Vec::new()));
    }
}
