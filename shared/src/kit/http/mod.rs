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
use std::time::Duration;

use serde::Deserialize;

use crate::kit::config::{Validate, value};

/// The `[http]` table, as far as it is the same in every binary; who may use the API is beside it
/// ([`auth::OneToken`], [`tokens`]).
#[derive(Debug, Clone, Deserialize)]
pub struct Http {
    /// Where to listen; no server if unset.
    #[serde(deserialize_with = "value::optional")]
    pub address: Option<SocketAddr>,
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

impl Validate for Http {
    fn problems(&self, problems: &mut Vec<String>) {
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
