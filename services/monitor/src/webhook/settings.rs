//! The `[webhook]` table.

use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

/// The longest wait that a receiver can ask for (`Retry-After`).
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// Most alerts of a group.
const BATCH_MAX: usize = 1_000;

/// Where changes of alarms are sent, and how.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The receiver; none: no webhook.
    #[serde(deserialize_with = "value::optional")]
    pub url: Option<String>,
    /// What is shown to it (`Authorization: Bearer`).
    #[serde(deserialize_with = "value::optional")]
    pub bearer_token: Option<SecretString>,
    /// The file that holds it.
    #[serde(deserialize_with = "value::optional")]
    pub bearer_token_file: Option<PathBuf>,
    /// Authorities of the receiver's certificate, PEM; without it those of the system.
    #[serde(deserialize_with = "value::optional")]
    pub ca_file: Option<PathBuf>,
    /// Name of the receiver in what is sent.
    pub receiver: String,
    /// Where people find the monitor, in what is sent.
    pub external_url: String,
    /// To be connected.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "value::milliseconds")]
    pub connect_timeout: Duration,
    /// From connecting to the end of the answer.
    #[serde(rename = "timeout_ms", deserialize_with = "value::milliseconds")]
    pub timeout: Duration,
    /// Most alerts of a group.
    pub batch_max: usize,
    /// The shortest wait for the next attempt.
    #[serde(rename = "retry_base_ms", deserialize_with = "value::milliseconds")]
    pub retry_base: Duration,
    /// The longest.
    #[serde(rename = "retry_max_ms", deserialize_with = "value::milliseconds")]
    pub retry_max: Duration,
    /// An alert that could not be sent for so long is dropped.
    #[serde(rename = "age_max_s", deserialize_with = "value::seconds")]
    pub age_max: Duration,
}

impl Settings {
    /// The receiver, if there is one.
    pub fn receiver_url(&self) -> Result<Option<Url>, &'static str> {
        let Some(url) = &self.url else { return Ok(None) };
        // What is wrong is not quoted: it may hold a secret.
        let url = Url::parse(url).map_err(|_| "is no URL")?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("must be http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password; set bearer_token_file");
        }
        Ok(Some(url))
    }

    /// What is shown to the receiver.
    pub fn token(&self) -> anyhow::Result<Option<SecretString>> {
        value::secret("bearer_token", self.bearer_token.as_ref(), self.bearer_token_file.as_deref())
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if let Err(why) = self.receiver_url() {
            problems.push(format!("webhook.url: {why}"));
        }
        if let Err(error) = self.token() {
            problems.push(format!("webhook.{error:#}"));
        }
        value::check_readable("webhook.ca_file", self.ca_file.as_deref(), problems);
        for (name, duration) in [
            ("connect_timeout_ms", self.connect_timeout),
            ("timeout_ms", self.timeout),
            ("retry_base_ms", self.retry_base),
            ("age_max_s", self.age_max),
        ] {
            if duration.is_zero() {
                problems.push(format!("webhook.{name}: must not be 0"));
            }
        }
        if !(1..=BATCH_MAX).contains(&self.batch_max) {
            problems.push(format!("webhook.batch_max: must be from 1 to {BATCH_MAX}"));
        }
        if self.retry_max < self.retry_base {
            problems.push("webhook.retry_max_ms: must not be less than webhook.retry_base_ms".to_owned());
        }
    }
}
