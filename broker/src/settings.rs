//! The configuration of the process: that of the broker, and that of the bridge in its own table.

use std::time::Duration;

use latchline_broker::config::Config;
use latchline_shared::kit::config::Validate;
use latchline_shared::kit::run;
use latchline_shared::kit::telemetry::Log;
use serde::Deserialize;

/// The default configuration, complete and commented.
pub(crate) const DEFAULT_TOML: &str = latchline_broker::config::DEFAULT_TOML;

/// The whole configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    /// The broker's keys, at top level.
    #[serde(flatten)]
    pub(crate) broker: Config,
    /// The table `[bridge]`.
    pub(crate) bridge: latchline_bridge::config::Config,
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        self.broker.problems(problems);
        self.bridge.problems(problems);
    }
}

impl run::Settings for Settings {
    fn log(&self) -> &Log {
        &self.broker.log
    }

    fn shutdown_deadline(&self) -> Duration {
        // Connections first, then what they left with the producer, and some time to spare.
        self.broker.limits.shutdown_deadline * 2 + Duration::from_secs(5)
    }
}
