//! Postgres: settings and pool, migrations, and errors classified as [`Fault`](crate::fault::Fault)s.
//!
//! Each service owns one schema and migrates it itself at start ([`migrate`]; `prepare` waits for it). What it does later
//! it does in a role that may do less ([`Role`]). TLS is rustls with the authorities of `ca_file`;
//! a server that cannot prove its name is not talked to.

pub mod fault;
pub mod listen;
pub mod migrate;
#[cfg(feature = "http")]
pub mod prepare;
pub mod statement;

pub mod development;
pub mod testing;

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::kit::config::{Validate, value};

/// A half-open connection is noticed after about this time.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// The `[postgres]` table, the same in every service.
#[derive(Debug, Clone, Deserialize)]
pub struct Postgres {
    /// `postgres://user@host:port/database`; a password does not belong here.
    pub url: SecretString,
    /// Password of the user.
    #[serde(deserialize_with = "value::optional")]
    pub password: Option<SecretString>,
    /// File that holds the password.
    #[serde(deserialize_with = "value::optional")]
    pub password_file: Option<PathBuf>,
    /// Encryption.
    pub tls: Tls,
    /// Authorities that sign the server's certificate, PEM; needed with `tls = "require"`.
    #[serde(deserialize_with = "value::optional")]
    pub ca_file: Option<PathBuf>,
    /// Connections at once.
    pub connections_max: usize,
    /// How long making a connection may take, and how long waiting for a free one.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "value::milliseconds")]
    pub connect_timeout: Duration,
    /// How long one statement may run.
    #[serde(rename = "statement_timeout_ms", deserialize_with = "value::milliseconds")]
    pub statement_timeout: Duration,
}

/// Encryption of the connection to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// None: for a socket, loopback or a network of one's own.
    Disable,
    /// Encrypted, and the server proves its name.
    Require,
}

/// The role that a pool's connections act in (`set role`): what the login may do and the process
/// does not need is out of reach of its mistakes.
#[derive(Debug, Clone, Copy)]
pub struct Role(pub &'static str);

impl Postgres {
    /// The settings of a client, without opening a connection. Reads the password's file.
    pub fn client_config(&self, application: &str) -> anyhow::Result<tokio_postgres::Config> {
        let mut config = tokio_postgres::Config::from_str(self.url.expose_secret())
            .map_err(|_| anyhow::anyhow!("postgres.url is not postgres://user@host:port/database"))?;
        if let Some(password) =
            value::secret("password", self.password.as_ref(), self.password_file.as_deref())?
        {
            config.password(password.expose_secret());
        }
        let statement_timeout_ms = self.statement_timeout.as_millis();
        config
            .application_name(application)
            .connect_timeout(self.connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .ssl_mode(match self.tls {
                Tls::Disable => tokio_postgres::config::SslMode::Disable,
                Tls::Require => tokio_postgres::config::SslMode::Require,
            })
            .options(format!(
                "-c statement_timeout={statement_timeout_ms} -c idle_in_transaction_session_timeout={statement_timeout_ms} -c timezone=UTC"
            ));
        Ok(config)
    }

    /// A pool whose connections act in `role`. Opens no connection yet.
    pub fn pool(&self, application: &str, role: Option<Role>) -> anyhow::Result<Pool> {
        self.build(self.client_config(application)?, role)
    }

    /// As [`Postgres::pool`]; names without a schema are looked for in `schema` and nowhere else,
    /// so that the same statements can work on a second schema of the same shape.
    pub fn pool_in(&self, application: &str, role: Option<Role>, schema: &str) -> anyhow::Result<Pool> {
        let mut config = self.client_config(application)?;
        // Unlike `set`, an option of the connection is no part of a transaction and survives `reset`.
        let options = format!("{} -c search_path={schema}", config.get_options().unwrap_or_default());
        config.options(options);
        self.build(config, role)
    }

    fn build(&self, config: tokio_postgres::Config, role: Option<Role>) -> anyhow::Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match self.tls {
            Tls::Disable => Manager::from_config(config, NoTls, recycling),
            Tls::Require => Manager::from_config(config, self.tls_connector()?, recycling),
        };
        let mut pool = Pool::builder(manager)
            .max_size(self.connections_max)
            .wait_timeout(Some(self.connect_timeout))
            .create_timeout(Some(self.connect_timeout))
            .runtime(Runtime::Tokio1);
        if let Some(Role(role)) = role {
            pool = pool.post_create(Hook::async_fn(move |client, _| {
                Box::pin(async move {
                    client.batch_execute(&format!("set role {role}")).await.map_err(HookError::Backend)
                })
            }));
        }
        pool.build().context("postgres.connections_max does not make a pool")
    }

    fn tls_connector(&self) -> anyhow::Result<MakeRustlsConnect> {
        let path = self.ca_file.as_ref().context("postgres.ca_file is not set")?;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
            let certificate = certificate.with_context(|| format!("{} is not PEM", path.display()))?;
            roots.add(certificate).with_context(|| format!("an authority of {}", path.display()))?;
        }
        ensure!(!roots.is_empty(), "{} holds no certificate", path.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

impl Validate for Postgres {
    fn problems(&self, problems: &mut Vec<String>) {
        match tokio_postgres::Config::from_str(self.url.expose_secret()) {
            // The library's words may quote the url.
            Err(_) => problems.push("postgres.url: is not postgres://user@host:port/database".to_owned()),
            Ok(config) if config.get_password().is_some() => {
                problems
                    .push("postgres.url: must not hold a password, set postgres.password_file".to_owned());
            }
            Ok(config) if config.get_dbname().is_none() => {
                problems.push("postgres.url: names no database".to_owned());
            }
            Ok(_) => {}
        }
        if let Err(error) = value::secret("password", self.password.as_ref(), self.password_file.as_deref()) {
            problems.push(format!("postgres.{error:#}"));
        }
        match (self.tls, &self.ca_file) {
            (Tls::Require, None) => problems.push(
                "postgres.ca_file: must be set with postgres.tls = \"require\"; the system's authorities are \
                 in /etc/ssl/certs/ca-certificates.crt on Debian"
                    .to_owned(),
            ),
            (Tls::Disable, Some(_)) => {
                problems.push("postgres.ca_file: is not used, postgres.tls is \"disable\"".to_owned());
            }
            _ => value::check_readable("postgres.ca_file", self.ca_file.as_deref(), problems),
        }
        for (name, is_zero) in [
            ("connections_max", self.connections_max == 0),
            ("connect_timeout_ms", self.connect_timeout.is_zero()),
            ("statement_timeout_ms", self.statement_timeout.is_zero()),
        ] {
            if is_zero {
                problems.push(format!("postgres.{name}: must not be 0"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
