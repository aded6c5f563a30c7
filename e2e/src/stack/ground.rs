//! What the whole system stands on: Kafka and Postgres, and, where this machine permits it, disks of
//! theirs that can be filled up and clocks of the services that can be stepped.

use anyhow::Context;

use crate::kafka::apache::Apache;
use crate::kafka::{Choice, Kafka};
use crate::stack::clocks::Clocks;
use crate::stack::disk::Disk;
use crate::stack::postgres::Postgres;

/// How much room is on each disk. What is not written costs no memory until it is filled up.
#[derive(Debug, Clone, Copy)]
pub enum Room {
    /// For some minutes of load.
    Minutes,
    /// For an hour of it.
    Hour,
}

impl Room {
    fn megabytes(self) -> u64 {
        match self {
            Self::Minutes => 320,
            Self::Hour => 2_048,
        }
    }
}

/// What a system is started on. What others stand on goes last.
#[derive(Debug)]
pub struct Ground {
    /// The Kafka.
    pub kafka: Kafka,
    /// The Postgres.
    pub postgres: Postgres,
    /// Their disks.
    pub disks: Option<Disks>,
    /// The clocks of the services.
    pub clocks: Option<Clocks>,
}

/// The disks that can be filled up.
#[derive(Debug)]
pub struct Disks {
    /// Kafka's.
    pub kafka: Disk,
    /// Postgres'.
    pub postgres: Disk,
}

impl Ground {
    /// This Kafka and a Postgres of its own; disks and clocks are those of the machine.
    pub async fn firm(kafka: Kafka) -> anyhow::Result<Self> {
        Ok(Self { kafka, postgres: Postgres::start().await?, disks: None, clocks: None })
    }

    /// Kafka and Postgres on disks of their own, and clocks that can be stepped. What cannot be had is
    /// told to `missing`, and is left out.
    pub async fn shaky(choice: Choice, room: Room, mut missing: impl FnMut(String)) -> anyhow::Result<Self> {
        let disks = Disks::mount(room).inspect_err(|why| missing(format!("no full disks: {why:#}"))).ok();
        let clocks = Clocks::new().inspect_err(|why| missing(format!("no clock steps: {why:#}"))).ok();
        let Some(disks) = disks.filter(|_| choice == Choice::Apache) else {
            return Ok(Self { clocks, ..Self::firm(Kafka::start(choice).await?).await? });
        };
        let kafka = Kafka::Apache(Apache::start_in(&disks.kafka.path().join("data")).await?);
        let postgres = Postgres::start_on(disks.postgres.clone()).await?;
        Ok(Self { kafka, postgres, disks: Some(disks), clocks })
    }
}

impl Disks {
    fn mount(room: Room) -> anyhow::Result<Self> {
        let kafka = Disk::mount(room.megabytes()).context("mount a disk for Kafka")?;
        let postgres = Disk::mount(room.megabytes()).context("mount a disk for Postgres")?;
        Ok(Self { kafka, postgres })
    }
}
