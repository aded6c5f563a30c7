//! Logs, to standard error, as text for people or as one JSON object per line for machines.
//!
//! In JSON the fields of an event stand at the top level beside `timestamp`, `level`, `target` and
//! `message`; a reader finds the address of a listener in the line whose message is `listening`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use crate::kit::config::Validate;

/// The `[log]` table.
#[derive(Debug, Clone, Deserialize)]
pub struct Log {
    /// Filter: a level, or levels per target, like `info,latchline_broker=debug`.
    pub level: String,
    /// How a line looks.
    pub format: Format,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Validate for Log {
    fn problems(&self, problems: &mut Vec<String>) {
        if let Err(error) = EnvFilter::try_new(&self.level) {
            problems.push(format!("log.level: {error}"));
        }
    }
}

/// Starts logging for the whole process; only the first call in a process succeeds.
///
/// Who reads standard error may go away, or its disk be full: lines that it does not take are gone, and
/// the process lives on. The library would complain of each of them on standard error, and panic when it
/// does not take that either, in a panic's own log as anywhere.
pub fn init(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.level).context("log.level is not a filter")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match log.format {
        Format::Text => builder.try_init(),
        Format::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
    };
    started.map_err(|error| anyhow!("logging cannot start: {error}"))
}

/// Logs panics like any other event, so that they are not lost among JSON lines. With a backtrace
/// if `RUST_BACKTRACE` is set.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(panic = what, place, backtrace, "panicked");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        for (level, valid) in [
            ("info", true),
            ("off", true),
            ("info,latchline_broker=trace", true),
            ("info,latchline_broker=loud", false),
        ] {
            let mut problems = Vec::new();
            Log { level: level.to_owned(), format: Format::Text }.problems(&mut problems);
            assert_eq!(problems.is_empty(), valid, "{level}: {problems:?}");
        }
    }
}
