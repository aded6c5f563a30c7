//! The `[webhook]` table.

use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use serde::Deserialize;

use super::guard::Guard;

/// Requests to receivers that users name.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Whether there are webhooks.
    pub enabled: bool,
    /// Networks (CIDR) that are not public and may be connected to all the same.
    pub allowed_networks: Vec<String>,
    /// Messages under way at once.
    pub concurrency: usize,
    /// As many more for critical ones alone.
    pub concurrency_critical: usize,
    /// To be connected.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "value::milliseconds")]
    pub connect_timeout: Duration,
    /// From connecting to the end of the answer.
    #[serde(rename = "timeout_ms", deserialize_with = "value::milliseconds")]
    pub timeout: Duration,
    /// Authorities of receivers' certificates, PEM; without it those of the system.
    #[serde(deserialize_with = "value::optional")]
    pub ca_file: Option<PathBuf>,
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if let Err(error) = Guard::new(&self.allowed_networks) {
            problems.push(format!("webhook.allowed_networks: {error:#}"));
        }
        if self.concurrency == 0 {
            problems.push("webhook.concurrency: must not be 0".to_owned());
        }
        if self.connect_timeout.is_zero() {
            problems.push("webhook.connect_timeout_ms: must not be 0".to_owned());
        }
        // Else it could not be told whether a receiver may have got what was not answered in time.
        if self.timeout <= self.connect_timeout {
            problems.push("webhook.timeout_ms: must be more than webhook.connect_timeout_ms".to_owned());
        }
        value::check_readable("webhook.ca_file", self.ca_file.as_deref(), problems);
    }
}
