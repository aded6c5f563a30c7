//! The monitor with a Postgres of its own.
//!
//! It can be started on a Postgres that is there, and stopped, killed and started again on the same
//! database with the same settings.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use anyhow::Context;
use tokio_postgres::Client;

use crate::kafka::Kafka;
use crate::stack::postgres::Postgres;
use crate::stack::program::{Name, Program};
pub use crate::stack::service::LISTENERS;
use crate::stack::service::Service;
use crate::stack::{ALARMS, FINDINGS, PARTITIONS, STATES};

/// Name of the file of thresholds.
const RULES: &str = "rules.toml";

/// A running monitor and its Postgres. What is running ends when it is dropped.
pub struct Monitor {
    /// The monitor. Before Postgres, so that it ends first.
    pub monitor: Program,
    service: Service,
}

impl Monitor {
    /// Starts both for the streams of this Kafka, with these thresholds beside the default.
    /// Further `settings` win over the stack's own.
    pub async fn start(kafka: &Kafka, rules: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_on(Postgres::start().await?, kafka, rules, settings).await
    }

    /// As [`Monitor::start`], on a Postgres that is there.
    pub async fn start_on(
        postgres: impl Into<Postgres>,
        kafka: &Kafka,
        rules: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut monitor = Self::prepare(postgres, kafka, rules, settings).await?;
        monitor.monitor.start(&LISTENERS).await?;
        monitor.ready().await?;
        Ok(monitor)
    }

    /// As [`Monitor::start_on`], but the monitor is not started.
    pub async fn prepare(
        postgres: impl Into<Postgres>,
        kafka: &Kafka,
        rules: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The development Kafka lets nobody but its owner create streams.
        for stream in [STATES, FINDINGS] {
            kafka.create_stream(&format!("{stream}.monitor.dlq"), 1).await?;
        }
        for stream in [STATES, FINDINGS, ALARMS] {
            kafka.create_stream(stream, PARTITIONS).await?;
        }
        let mut service = Service::new(Name::Monitor, "read,operate,admin", postgres.into(), kafka)?;
        let file = service.folder().join(RULES);
        std::fs::write(&file, rules).context("write thresholds")?;
        service.set(&[("rules.file", &file.display().to_string())]);
        service.set(settings);
        Ok(Self { monitor: service.program(), service })
    }

    /// The file of thresholds.
    pub fn rules(&self) -> PathBuf {
        self.folder().join(RULES)
    }

    /// As [`Service::connect`]; names without a schema are the monitor's.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let client = self.service.connect().await?;
        client.batch_execute("set search_path to monitor").await.context("set the schema")?;
        Ok(client)
    }
}

impl Deref for Monitor {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Monitor {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}
