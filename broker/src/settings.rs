//! The configuration of the process: that of the broker, and in a table of its own that of the hook
//! that stores messages, whose type only `main.rs` knows.

use std::net::SocketAddr;
use std::time::Duration;

use latchline_shared::kit::config::Validate;
use latchline_shared::kit::run;
use latchline_shared::kit::telemetry::Log;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::Config;

/// The whole configuration.
#[derive(Debug, Deserialize)]
pub struct Settings<B> {
    /// The broker's keys, at top level.
    #[serde(flatten)]
    pub broker: Config,
    /// The table `[bridge]`.
    pub bridge: B,
}

impl<B: Validate> Validate for Settings<B> {
    fn problems(&self, problems: &mut Vec<String>) {
        self.broker.problems(problems);
        self.bridge.problems(problems);
    }
}

impl<B: DeserializeOwned + Validate> run::Settings for Settings<B> {
    fn log(&self) -> &Log {
        &self.broker.log
    }

    fn shutdown_deadline(&self) -> Duration {
        // Connections first, then what they left to be stored, and some time to spare.
        self.broker.limits.shutdown_deadline * 2 + Duration::from_secs(5)
    }

    fn http_address(&self) -> Option<SocketAddr> {
        self.broker.http.server.address
    }
}
