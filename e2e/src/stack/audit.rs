//! The auditor with a Postgres of its own.
//!
//! A second instance beside the first ([`Service::another`]) shares Kafka group, database and
//! settings; it has its own port.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use anyhow::Context;

use crate::kafka::Kafka;
use crate::random;
use crate::stack::postgres::Postgres;
use crate::stack::program::{Name, Program};
use crate::stack::secrets::Secrets;
pub use crate::stack::service::LISTENERS;
use crate::stack::service::Service;
use crate::stack::{CHECKPOINTS, COMMANDS, FINDINGS, PARTITIONS, REJECTED, STATES};

/// Name of the file of signed checkpoints.
const NOTES: &str = "notes";
/// Name of the file of the key that signs them.
const KEY: &str = "checkpoint.key";

/// A running auditor and its Postgres. What is running ends when it is dropped.
pub struct Audit {
    /// The auditor. Before Postgres, so that it ends first.
    pub auditor: Program,
    service: Service,
}

impl Audit {
    /// Starts both for the streams of this Kafka. Further `settings` win over the stack's own.
    pub async fn start(kafka: &Kafka, secrets: &Secrets, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_on(Postgres::start().await?, kafka, secrets, settings).await
    }

    /// As [`Audit::start`], on a Postgres that is there.
    pub async fn start_on(
        postgres: impl Into<Postgres>,
        kafka: &Kafka,
        secrets: &Secrets,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut audit = Self::prepare(postgres, kafka, secrets, settings).await?;
        audit.auditor.start(&LISTENERS).await?;
        audit.ready().await?;
        Ok(audit)
    }

    /// As [`Audit::start_on`], but the auditor is not started.
    pub async fn prepare(
        postgres: impl Into<Postgres>,
        kafka: &Kafka,
        secrets: &Secrets,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        // The development Kafka lets nobody but its owner create streams.
        for stream in [STATES, COMMANDS, REJECTED] {
            kafka.create_stream(&format!("{stream}.auditor.dlq"), 1).await?;
        }
        kafka.create_stream(CHECKPOINTS, 1).await?;
        kafka.create_stream(FINDINGS, PARTITIONS).await?;
        let mut service = Service::new(Name::Auditor, "read,export,admin", postgres.into(), kafka)?;
        let key = service.folder().join(KEY);
        std::fs::write(&key, random::secret()?).context("write the key of checkpoints")?;
        let notes = service.folder().join(NOTES);
        service.set(&[
            ("checkpoint.key_file", &key.display().to_string()),
            ("checkpoint.file", &notes.display().to_string()),
            ("checkpoint.interval_s", "1"),
            ("keys.master_key", &secrets.master_hex),
        ]);
        service.set(settings);
        Ok(Self { auditor: service.program(), service })
    }

    /// The file of signed checkpoints, one each second while there are events.
    pub fn notes(&self) -> PathBuf {
        self.folder().join(NOTES)
    }

    /// The key that they verify with.
    pub fn verifier(&self) -> anyhow::Result<String> {
        let mut command = self.auditor.command()?;
        command.args(["key", "--name", "latchline.example", "--file"]).arg(self.folder().join(KEY));
        Ok(String::from_utf8(command.output()?.stdout)?.trim().to_owned())
    }
}

impl Deref for Audit {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.service
    }
}

impl DerefMut for Audit {
    fn deref_mut(&mut self) -> &mut Service {
        &mut self.service
    }
}
