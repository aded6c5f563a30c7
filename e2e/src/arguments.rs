//! Command-line arguments that several tools share: where the broker is, and the master key.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use latchline_shared::keys::MasterKey;
use latchline_shared::message::Protocol;

/// Where the broker is.
#[derive(Debug, Clone, Args)]
pub struct Server {
    /// Broker to connect to, host:port
    #[arg(long, env = "LATCHLINE_SERVER", default_value = "127.0.0.1:1883")]
    server: String,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    v5: bool,
}

impl Server {
    /// Host and port.
    pub fn address(&self) -> anyhow::Result<(String, u16)> {
        let parts = self.server.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse()));
        match parts {
            Some((host, Ok(port))) if !host.is_empty() => Ok((host, port)),
            _ => bail!("--server is host:port, not {}", self.server),
        }
    }

    /// Protocol version.
    pub fn protocol(&self) -> Protocol {
        if self.v5 { Protocol::V5 } else { Protocol::V3 }
    }
}

/// Where the fleet's master key is. It has no `Debug` on purpose.
#[derive(Clone, Args)]
pub struct Key {
    /// Master key of the fleet, 64 hexadecimal digits; better in a file or in the environment
    #[arg(long, alias = "key", env = "LATCHLINE_MASTER_KEY", hide_env_values = true)]
    master_key: Option<String>,
    /// File with the master key
    #[arg(long, env = "LATCHLINE_MASTER_KEY_FILE", conflicts_with = "master_key")]
    master_key_file: Option<PathBuf>,
}

impl Key {
    /// Whether there is one.
    pub fn is_given(&self) -> bool {
        self.master_key.is_some() || self.master_key_file.is_some()
    }

    /// The key, from whichever place it was given in.
    pub fn read(&self) -> anyhow::Result<MasterKey> {
        let text = match (&self.master_key, &self.master_key_file) {
            (Some(text), _) => text.clone(),
            (None, Some(path)) => {
                std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
            }
            (None, None) => bail!("no master key: give --master-key-file, or LATCHLINE_MASTER_KEY"),
        };
        Ok(MasterKey::from_hex(text.trim())?)
    }
}
