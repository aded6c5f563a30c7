//! The whole path on a system that runs somewhere, from outside: MQTT and HTTP, and neither Kafka nor
//! Postgres, which containers do not publish.
//!
//! [`path`]: everything once, and what came of it. [`traffic`]: reports and commands all the time,
//! while parts are restarted, and an account of each at the end.
//!
//! Ids of locks are random, so both can be repeated on the same installation.

pub mod account;
pub mod path;
pub mod publisher;
pub mod traffic;

use std::sync::Arc;
use std::time::Duration;

use latchline_shared::command::ShortSign;
use latchline_shared::message::Protocol;
use tokio::sync::mpsc;

use crate::lock::run::{Observer, Settings, run};
use crate::lock::state::Change;
use crate::mqtt;
use crate::operator::Operator;
use crate::random;
use crate::site::Site;
use crate::stack::secrets::OPERATOR;

/// A simulated lock at work; it ends when this is dropped.
pub struct Lock {
    /// Its id.
    pub id: String,
    changes: mpsc::Sender<Change>,
}

/// An id that no lock had before.
fn lock_id() -> anyhow::Result<String> {
    // Seventeen digits, like those of the reference.
    Ok(format!("1{}", random::process_id()?))
}

impl Lock {
    /// Starts one.
    fn start(
        site: &Site,
        protocol: Protocol,
        battery_percent: f64,
        interval: Duration,
        observer: Observer,
    ) -> anyhow::Result<Self> {
        let id = lock_id()?;
        let (changes, receiver) = mpsc::channel(8);
        let settings = Settings {
            mqtt: mqtt::Options {
                host: site.mqtt.ip().to_string(),
                port: site.mqtt.port(),
                client_id: id.clone(),
                login: Some(site.secrets.lock_login(&id)),
                protocol,
                session: mqtt::Session::Kept,
            },
            key: site.secrets.master.command_key(&id),
            short_sign: ShortSign::Refused,
            interval,
            jitter: interval / 5,
            battery_percent,
            drain_percent_per_day: 0.0,
            jammed: false,
            seed: u64::from_le_bytes(random::bytes()?),
            nonces: Default::default(),
            nonce_file: None,
            observer,
        };
        tokio::spawn(run(settings, receiver));
        Ok(Self { id, changes })
    }

    /// As [`Lock::start`], for a lock that is well, and whose life nobody watches from inside.
    fn well(site: &Site, protocol: Protocol, battery_percent: f64) -> anyhow::Result<Self> {
        Self::start(site, protocol, battery_percent, Duration::from_secs(20), Arc::new(|_, _| {}))
    }

    /// Something happens to it.
    async fn change(&self, change: Change) -> anyhow::Result<()> {
        Ok(self.changes.send(change).await?)
    }
}

/// Connects an operator that listens to a lock.
async fn operator(site: &Site, lock: &str) -> anyhow::Result<Operator> {
    let options = mqtt::Options {
        host: site.mqtt.ip().to_string(),
        port: site.mqtt.port(),
        client_id: format!("{OPERATOR}-{}", random::process_id()?),
        login: Some((OPERATOR.to_owned(), site.secrets.operator.clone())),
        protocol: Protocol::V5,
        session: mqtt::Session::Clean,
    };
    Operator::connect(options, lock).await
}
