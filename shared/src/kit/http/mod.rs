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

use anyhow::Context;
use serde::Deserialize;

use self::tokens::Tokens;

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

/// The `[http]` table of a binary whose API knows who asks: the server, and who may ask.
#[derive(Debug, Clone, Deserialize)]
pub struct Api {
    /// The server.
    #[serde(flatten)]
    pub server: Http,
    /// File of tokens; without one nobody may use the API.
    #[serde(deserialize_with = "value::optional")]
    pub tokens_file: Option<PathBuf>,
}

impl Api {
    /// Reads the tokens. `scopes` are those that the service knows.
    pub fn tokens(&self, scopes: &'static [&'static str]) -> anyhow::Result<Tokens> {
        match &self.tokens_file {
            Some(file) => Tokens::open(file, scopes).context("http.tokens_file"),
            None => Ok(Tokens::none(scopes)),
        }
    }
}

impl Validate for Api {
    fn problems(&self, problems: &mut Vec<String>) {
        self.server.problems(problems);
        value::check_readable("http.tokens_file", self.tokens_file.as_deref(), problems);
    }
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
