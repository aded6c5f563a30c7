//! HTTP: a bounded server, the admin routes, bearer tokens, and errors as `problem+json`.

pub mod server;

pub mod admin;
pub mod readiness;

pub mod auth;
pub mod problem;
pub mod tokens;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::kit::config::{Validate, value};

/// Shortest token that is accepted in the configuration.
const TOKEN_BYTES_MIN: usize = 16;

/// The `[http]` table, the same in every binary.
#[derive(Debug, Clone, Deserialize)]
pub struct Http {
    /// Where to listen; no server if unset.
    #[serde(deserialize_with = "value::optional")]
    pub address: Option<SocketAddr>,
    /// Bearer token of the API; the API is off while neither this nor `token_file` is set. The
    /// admin routes need no token.
    #[serde(deserialize_with = "value::optional")]
    pub token: Option<SecretString>,
    /// File that holds the token.
    #[serde(deserialize_with = "value::optional")]
    pub token_file: Option<PathBuf>,
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Longest request body.
    pub body_bytes_max: usize,
    /// From accept, or from the answer before, to the end of a request's head.
    #[serde(rename = "head_timeout_ms", deserialize_with = "value::milliseconds")]
    pub head_timeout: Duration,
    /// From the end of a request's head to the head of its answer.
    #[serde(rename = "request_timeout_ms", deserialize_with = "value::milliseconds")]
    pub request_timeout: Duration,
}

impl Http {
    /// The token, from the value or from the file.
    pub fn token(&self) -> anyhow::Result<Option<SecretString>> {
        value::secret("http.token", self.token.as_ref(), self.token_file.as_deref())
    }
}

impl Validate for Http {
    fn problems(&self, problems: &mut Vec<String>) {
        match self.token() {
            Err(error) => problems.push(format!("{error:#}")),
            Ok(Some(token)) if token.expose_secret().len() < TOKEN_BYTES_MIN => {
                problems.push(format!("http.token: must have at least {TOKEN_BYTES_MIN} bytes"));
            }
            Ok(_) => {}
        }
        for (name, is_zero) in [
            ("connections_max", self.connections_max == 0),
            ("body_bytes_max", self.body_bytes_max == 0),
            ("head_timeout_ms", self.head_timeout.is_zero()),
            ("request_timeout_ms", self.request_timeout.is_zero()),
        ] {
            if is_zero {
                problems.push(format!("http.{name}: must not be 0"));
            }
        }
    }
}
