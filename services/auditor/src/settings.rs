//! The configuration of the process. `config/auditor.toml` at the repository root is its default,
//! reference and schema: each key is explained there.

use std::net::SocketAddr;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use latchline_shared::kit::http::Api;
use latchline_shared::kit::kafka::consumer::config::Consumer;
use latchline_shared::kit::postgres::prepare::Database;
use latchline_shared::kit::run;
use latchline_shared::kit::telemetry::Log;
use serde::Deserialize;

use crate::http::Limits;
use crate::keys::KeysConfig;
use crate::record::Streams;
use crate::{checkpoint, findings, judge};

/// The default document.
pub const DEFAULT_TOML: &str = include_str!("../../../config/auditor.toml");

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
    /// Where history is kept.
    pub postgres: Database,
    /// What commands are verified with.
    pub keys: KeysConfig,
    /// What is a finding.
    pub judge: judge::Settings,
    /// Who is told of findings.
    pub findings: findings::Settings,
    /// Signed states of the chains.
    pub checkpoint: checkpoint::Settings,
    /// Admin routes and API.
    pub http: Api,
    /// Bounds of the API.
    pub api: Limits,
    /// Logs.
    pub log: Log,
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        self.consumer.problems("consumer", problems);
        self.postgres.server.problems(problems);
        self.keys.problems(problems);
        self.judge.problems(problems);
        self.checkpoint.problems(problems);
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
        config::load::<Settings>(DEFAULT_TOML, None, "LATCHLINE_AUDITOR", std::iter::empty()).unwrap();
        assert_eq!(config::needless_keys::<Settings>(DEFAULT_TOML), Ok(Vec::new()));
    }
}
