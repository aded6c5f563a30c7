//! Locks that log in with the password that derives from the fleet's master key and their id: a
//! fleet of any size without an entry for any lock.

use anyhow::Context;
use bytestring::ByteString;
use latchline_shared::keys::MasterKey;
use secrecy::ExposeSecret;

use crate::config;

/// The fleet.
#[derive(Debug)]
pub struct Fleet {
    master: MasterKey,
    /// What its locks may do.
    pub role: ByteString,
}

impl Fleet {
    /// The fleet of the configuration, if it has one. Blocks on the disk.
    pub fn open(config: &config::Access) -> anyhow::Result<Option<Self>> {
        let Some(text) = config.fleet_master_key()? else { return Ok(None) };
        let master = MasterKey::from_hex(text.expose_secret()).context("access.fleet_master_key")?;
        Ok(Some(Self { master, role: config.fleet_role.as_str().into() }))
    }

    /// Whether the password is this lock's. Takes the same time whatever the password.
    pub fn knows(&self, client_id: &str, password: &[u8]) -> bool {
        self.master.is_mqtt_password(client_id, password)
    }
}
