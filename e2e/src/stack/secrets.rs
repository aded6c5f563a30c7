//! Secrets of one run, from the operating system, and who may log in with them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use latchline_shared::keys::{MasterKey, SecretHash};
use latchline_shared::message::Protocol;

use crate::client::Client;
use crate::client::packet::Connect;
use crate::{mqtt, random};

/// Name of the operator.
pub const OPERATOR: &str = "operator";
/// Name of the user who may do everything: what a test needs that no lock and no operator does.
pub const ADMINISTRATOR: &str = "administrator";

/// Secrets of one run. It has no `Debug` on purpose.
#[derive(Clone)]
pub struct Secrets {
    /// The fleet's master key in hexadecimal digits.
    pub master_hex: String,
    /// The fleet's master key.
    pub master: MasterKey,
    /// Password of [`OPERATOR`].
    pub operator: String,
    /// Password of [`ADMINISTRATOR`].
    pub administrator: String,
    /// Bearer token of the broker's API.
    pub token: String,
}

impl Secrets {
    /// New ones.
    pub fn random() -> anyhow::Result<Self> {
        let master_hex = random::secret()?;
        Ok(Self {
            master: MasterKey::from_hex(&master_hex)?,
            master_hex,
            operator: random::secret()?,
            administrator: random::secret()?,
            token: random::secret()?,
        })
    }

    /// The broker's credentials file.
    pub fn credentials(&self) -> String {
        let hash = |secret: &str| SecretHash::of(secret.as_bytes());
        format!(
            "user {OPERATOR} {} operator\nuser {ADMINISTRATOR} {} administrator\n",
            hash(&self.operator),
            hash(&self.administrator)
        )
    }

    /// Writes it.
    pub fn write_credentials(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, self.credentials()).with_context(|| format!("write {}", path.display()))
    }

    /// How a lock logs in.
    pub fn lock_login(&self, id: &str) -> (String, String) {
        (id.to_owned(), self.master.mqtt_password(id))
    }

    /// Connects a raw client as a lock, whose session the broker keeps; the answer is Session Present.
    pub async fn connect_lock(
        &self,
        broker: SocketAddr,
        id: &str,
        protocol: Protocol,
    ) -> anyhow::Result<(Client, bool)> {
        let (username, password) = self.lock_login(id);
        let connect = Connect {
            protocol,
            client_id: id,
            login: Some((&username, &password)),
            clean: false,
            session_expiry_s: 3600,
            keep_alive_s: 60,
        };
        Client::connect(broker, &connect).await
    }

    /// How the operator connects.
    pub fn operator_options(&self, port: u16, protocol: Protocol) -> anyhow::Result<mqtt::Options> {
        Ok(mqtt::Options {
            host: "127.0.0.1".to_owned(),
            port,
            client_id: format!("{OPERATOR}-{}", random::process_id()?),
            login: Some((OPERATOR.to_owned(), self.operator.clone())),
            protocol,
            session: mqtt::Session::Clean,
        })
    }
}
