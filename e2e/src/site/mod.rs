//! A running system, wherever it runs: in processes of our own, or in containers behind published
//! ports. What tests, the demo and the tools ask, they ask here: [`ask`] has the questions, [`events`]
//! what comes by itself.

pub mod ask;
pub mod events;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tokio::time::timeout;

use crate::stack::secrets::Secrets;

/// Where everything is, and the secrets to use it.
#[derive(Clone)]
pub struct Site {
    /// Where locks and operators connect.
    pub mqtt: SocketAddr,
    /// The same for MQTT over WebSocket.
    pub websocket: String,
    /// The broker's API.
    pub broker: Api,
    /// The auditor's.
    pub auditor: Api,
    /// The monitor's.
    pub monitor: Api,
    /// The notifier's.
    pub notifier: Api,
    /// What shows mails; no token.
    pub mail: Api,
    /// What shows SMS; no token.
    pub sms: Api,
    /// Kafka, where it can be reached.
    pub kafka: Option<String>,
    /// Passwords, the token of all APIs, and the master key.
    pub secrets: Secrets,
}

impl Site {
    /// What the environment says, as [`Site::environment`] writes it.
    pub fn of_environment() -> anyhow::Result<Self> {
        let secrets = Secrets {
            master: latchline_shared::keys::MasterKey::from_hex(&variable("MASTER_KEY")?)?,
            master_hex: variable("MASTER_KEY")?,
            operator: variable("PASSWORD")?,
            administrator: variable("ADMINISTRATOR_PASSWORD")?,
            token: variable("API_TOKEN")?,
        };
        let api = |name: &str, token: Option<&str>| Ok::<_, anyhow::Error>(Api::new(variable(name)?, token));
        let token = Some(secrets.token.as_str());
        Ok(Self {
            mqtt: variable("SERVER")?.parse().context("LATCHLINE_SERVER is address:port")?,
            websocket: variable("WEBSOCKET")?,
            broker: api("BROKER_URL", token)?,
            auditor: api("AUDITOR_URL", token)?,
            monitor: api("MONITOR_URL", token)?,
            notifier: api("NOTIFIER_URL", token)?,
            mail: api("MAIL_URL", None)?,
            sms: api("SMS_URL", None)?,
            kafka: variable("KAFKA").ok(),
            secrets,
        })
    }

    /// The variables that [`Site::of_environment`] and the tools read, as names and values.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("SERVER", self.mqtt.to_string()),
            ("WEBSOCKET", self.websocket.clone()),
            ("BROKER_URL", self.broker.url.clone()),
            ("AUDITOR_URL", self.auditor.url.clone()),
            ("MONITOR_URL", self.monitor.url.clone()),
            ("NOTIFIER_URL", self.notifier.url.clone()),
            ("MAIL_URL", self.mail.url.clone()),
            ("SMS_URL", self.sms.url.clone()),
            ("API_TOKEN", self.secrets.token.clone()),
            ("PASSWORD", self.secrets.operator.clone()),
            ("ADMINISTRATOR_PASSWORD", self.secrets.administrator.clone()),
            ("MASTER_KEY", self.secrets.master_hex.clone()),
        ];
        variables.extend(self.kafka.clone().map(|kafka| ("KAFKA", kafka)));
        variables.into_iter().map(|(name, value)| (format!("{PREFIX}{name}"), value)).collect()
    }
}

/// Begin of the names.
const PREFIX: &str = "LATCHLINE_";

fn variable(name: &str) -> anyhow::Result<String> {
    let name = format!("{PREFIX}{name}");
    let value = std::env::var(&name).with_context(|| format!("environment variable {name}"))?;
    ensure!(!value.is_empty(), "environment variable {name} is empty");
    Ok(value)
}

/// Longest wait for an answer, a long page of the history included; a stream has no end.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// An HTTP API.
#[derive(Clone)]
pub struct Api {
    /// `http://host:port`.
    pub url: String,
    token: Option<String>,
    client: reqwest::Client,
}

impl Api {
    /// One at this URL, asked with this bearer token.
    pub fn new(url: impl Into<String>, token: Option<&str>) -> Self {
        // What the environment says of proxies is not meant for these: they are on this machine.
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_MAX).build();
        Self { url: url.into(), token: token.map(str::to_owned), client: client.unwrap_or_default() }
    }

    /// Asks.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        self.send(self.client.get(format!("{}{path}", self.url)).timeout(ANSWER_MAX), path).await
    }

    /// As [`Api::get`], for an answer that goes on and on.
    async fn stream(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let asked = self.send(self.client.get(format!("{}{path}", self.url)), path);
        timeout(ANSWER_MAX, asked).await.with_context(|| format!("no answer to {path}"))?
    }

    /// As [`Api::get`], for a good answer in JSON.
    pub async fn json(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.get(path).await?.error_for_status()?;
        response.json().await.with_context(|| format!("answer to {path}"))
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<reqwest::Response> {
        self.send(self.client.post(format!("{}{path}", self.url)).timeout(ANSWER_MAX).json(body), path).await
    }

    /// Puts JSON.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<reqwest::Response> {
        self.send(self.client.put(format!("{}{path}", self.url)).timeout(ANSWER_MAX).json(body), path).await
    }

    /// Whether it does its job.
    pub async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_ok_and(|answer| answer.status().is_success())
    }

    async fn send(&self, request: reqwest::RequestBuilder, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.with_context(|| format!("{}{path}", self.url))
    }
}
