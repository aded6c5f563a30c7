//! The broker's configuration. `config/broker.toml` at the repository root is its default,
//! reference and schema: each key is explained there, with unit, bound and what happens at it.
//!
//! Types here say what a setting is; `validate` says which settings are wrong or fight each
//! other. The binary puts this beside the bridge's table by `#[serde(flatten)]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::value;
use latchline_shared::kit::http::Http;
use latchline_shared::kit::http::auth::OneToken;
use latchline_shared::kit::telemetry::Log;
use secrecy::SecretString;
use serde::Deserialize;

mod validate;

/// The default document.
pub const DEFAULT_TOML: &str = include_str!("../../../config/broker.toml");

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Name of this broker in records, `name@host`.
    pub node: String,
    /// Where clients connect.
    pub listen: Listen,
    /// Every bound of the broker.
    pub limits: Limits,
    /// Who may connect and do what.
    pub access: Access,
    /// Which commands reach their locks.
    pub guard: Guard,
    /// Admin routes and API.
    pub http: Api,
    /// Logs.
    pub log: Log,
}

/// The HTTP server, and who may use its API.
#[derive(Debug, Clone, Deserialize)]
pub struct Api {
    /// The server.
    #[serde(flatten)]
    pub server: Http,
    /// The token of the API.
    #[serde(flatten)]
    pub token: OneToken,
}

/// Listeners, and the certificates of the encrypted ones.
#[derive(Debug, Clone, Deserialize)]
pub struct Listen {
    /// MQTT over TCP.
    #[serde(deserialize_with = "value::optional")]
    pub tcp: Option<SocketAddr>,
    /// MQTT over TLS.
    #[serde(deserialize_with = "value::optional")]
    pub tls: Option<SocketAddr>,
    /// MQTT over WebSocket.
    #[serde(deserialize_with = "value::optional")]
    pub ws: Option<SocketAddr>,
    /// MQTT over WebSocket over TLS.
    #[serde(deserialize_with = "value::optional")]
    pub wss: Option<SocketAddr>,
    /// Path of the WebSocket.
    pub ws_path: String,
    /// Certificate chain of the server, PEM.
    #[serde(deserialize_with = "value::optional")]
    pub certificate_file: Option<PathBuf>,
    /// Private key of the server, PEM.
    #[serde(deserialize_with = "value::optional")]
    pub key_file: Option<PathBuf>,
    /// Authorities that sign client certificates, PEM.
    #[serde(deserialize_with = "value::optional")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients show a certificate.
    pub client_certificate: ClientCertificate,
    /// Whether a client certificate's common name must be the client id.
    pub common_name_is_client_id: bool,
}

/// Whether clients show a certificate on the TLS listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Never asked for.
    Off,
    /// Asked for; if shown, it must be valid.
    Optional,
    /// The handshake fails without a valid one.
    Required,
}

/// Every bound of the broker.
#[derive(Debug, Clone, Deserialize)]
pub struct Limits {
    /// Connections at once, over all listeners.
    pub connections_max: usize,
    /// Accept to CONNECT, TLS and WebSocket handshakes included.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "value::milliseconds")]
    pub connect_timeout: Duration,
    /// First byte of a packet to its last.
    #[serde(rename = "packet_timeout_ms", deserialize_with = "value::milliseconds")]
    pub packet_timeout: Duration,
    /// No progress in writing to a client.
    #[serde(rename = "write_timeout_ms", deserialize_with = "value::milliseconds")]
    pub write_timeout: Duration,
    /// Largest packet from a client.
    pub packet_bytes_max: u32,
    /// Largest keep alive in seconds; 0 is no cap.
    pub keep_alive_s_max: u16,
    /// Unacknowledged PUBLISH with QoS above 0 from one client.
    pub receive_max: u16,
    /// Unacknowledged PUBLISH with QoS above 0 to one client.
    pub inflight_max: u16,
    /// Topic aliases, per connection and direction.
    pub topic_alias_max: u16,
    /// Longest session expiry in seconds; also the expiry of a 3.1.1 session with clean_session 0.
    pub session_expiry_s_max: u32,
    /// Longest will delay in seconds.
    pub will_delay_s_max: u32,
    /// Subscriptions of one client.
    pub subscriptions_max: usize,
    /// Sessions in total, connected and parked.
    pub sessions_max: usize,
    /// Messages that wait for one client.
    pub queue_messages_max: usize,
    /// Bytes that wait for one client.
    pub queue_bytes_max: usize,
    /// How long a publisher is held back for a connected receiver whose queue is full before
    /// messages to that receiver are dropped.
    #[serde(rename = "slow_receiver_wait_ms", deserialize_with = "value::milliseconds")]
    pub slow_receiver_wait: Duration,
    /// Retained messages in total.
    pub retained_messages_max: usize,
    /// Bytes of retained messages in total.
    pub retained_bytes_max: usize,
    /// Bytes of one connection that wait for storage.
    pub inflight_bytes_per_connection: usize,
    /// Bytes of all connections that wait for storage.
    pub inflight_bytes_total: usize,
    /// From the wish to end to the end of the process.
    #[serde(rename = "shutdown_deadline_ms", deserialize_with = "value::milliseconds")]
    pub shutdown_deadline: Duration,
    /// For hooks that answer `client.authenticate` later.
    #[serde(rename = "authenticate_timeout_ms", deserialize_with = "value::milliseconds")]
    pub authenticate_timeout: Duration,
}

/// Who may connect, and what they may do.
#[derive(Debug, Clone, Deserialize)]
pub struct Access {
    /// Role of clients without user name and password; unset refuses them.
    #[serde(deserialize_with = "value::optional")]
    pub anonymous_role: Option<String>,
    /// Users and locks with secrets of their own.
    #[serde(deserialize_with = "value::optional")]
    pub credentials_file: Option<PathBuf>,
    /// Master that lock passwords and signing keys derive from: 64 hexadecimal digits.
    #[serde(deserialize_with = "value::optional")]
    pub fleet_master_key: Option<SecretString>,
    /// File that holds the master.
    #[serde(deserialize_with = "value::optional")]
    pub fleet_master_key_file: Option<PathBuf>,
    /// Role of locks that log in with a derived password.
    pub fleet_role: String,
    /// What becomes of a client whose publish was refused and that cannot be told.
    pub unanswerable_refusal: Unanswerable,
    /// The first rule that applies decides; if none does, the access is refused.
    #[serde(deserialize_with = "value::list")]
    pub rules: Vec<AccessRule>,
}

impl Access {
    /// The fleet's master key, from the value or from the file.
    pub fn fleet_master_key(&self) -> anyhow::Result<Option<SecretString>> {
        let file = self.fleet_master_key_file.as_deref();
        value::secret("access.fleet_master_key", self.fleet_master_key.as_ref(), file)
    }
}

/// What becomes of a client whose publish was refused where the protocol has no answer for that:
/// MQTT 3.1.1, and QoS 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unanswerable {
    /// Its connection ends.
    Disconnect,
    /// It gets an acknowledgement, and the message goes nowhere.
    Drop,
}

/// One rule; each condition that is set must hold.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    /// What the rule decides.
    pub effect: Effect,
    /// What the rule is about.
    pub action: Action,
    /// Role of the client.
    pub role: Option<String>,
    /// User name of the client.
    pub user: Option<String>,
    /// Client id.
    pub client: Option<String>,
    /// The rule passes over clients with this role.
    pub except_role: Option<String>,
    /// Topic filter; `%c` stands for the client id, `%u` for the user name.
    pub filter: String,
    /// Publish: QoS levels.
    pub qos: Option<Vec<u8>>,
    /// Publish: RETAIN flag.
    pub retain: Option<bool>,
    /// Subscribe: whether the client's filter has wildcards.
    pub wildcard: Option<bool>,
}

/// What a rule decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The access is granted.
    Allow,
    /// The access is refused.
    Deny,
}

/// What a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Publishing, wills included.
    Publish,
    /// Subscribing.
    Subscribe,
    /// Both.
    All,
}

/// Which commands reach their locks.
#[derive(Debug, Clone, Deserialize)]
pub struct Guard {
    /// Whether commands are looked at, and what comes of it.
    pub mode: GuardMode,
    /// Master keys that commands name by `kid`; with `access.fleet_master_key` there may be two.
    #[serde(deserialize_with = "value::list")]
    pub named: Vec<NamedKey>,
    /// File with the secrets of locks that have their own.
    #[serde(deserialize_with = "value::optional")]
    pub lock_secrets_file: Option<PathBuf>,
    /// Locks whose commands may have signatures of 16 digits.
    pub short_sign_locks: Vec<String>,
    /// Locks that no command is good for any more.
    pub revoked_locks: Vec<String>,
    /// Nonces that are remembered, of all locks.
    pub nonces_max: usize,
    /// Nonces that are remembered of one lock.
    pub nonces_per_lock_max: usize,
}

/// What the guard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardMode {
    /// Nothing.
    Off,
    /// It counts what it would refuse, and lets it through.
    Report,
    /// It refuses.
    Enforce,
}

/// A master key with a name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedKey {
    /// Its name in commands.
    pub kid: String,
    /// File that holds the key: 64 hexadecimal digits.
    pub master_key_file: PathBuf,
}
