//! SMS, by an HTTP gateway that is described, not programmed: `config/sms-gateways.toml` has the keys, and
//! presets of some gateways.
//!
//! [`fill`] makes the request, [`judge`] says what the answer means, [`report`] reads delivery reports.
//!
//! Invariant: a message goes to one number. What is no number is refused here, whoever has let it through.

mod fill;
mod judge;

pub mod gateway_settings;
pub mod link;
pub mod report;
pub mod settings;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::kit::config::value;
use minijinja::value::Value as Filling;
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};

use self::fill::{Templates, Values};
use self::gateway_settings::GatewaySettings;
use self::judge::Rules;
use self::link::Links;
use super::exchange::{client, exchange};
use super::{Answer, Bounce, Content, Message};
use crate::address;
use crate::event::Channel;
use crate::status::Outcome;
use crate::template::sms::{Encoding, segments};

/// Longest name of a gateway.
const NAME_BYTES_MAX: usize = 32;

/// A gateway.
pub struct Gateway {
    name: String,
    client: Client,
    templates: Templates,
    rules: Rules,
    links: Option<Links>,
    secrets: BTreeMap<String, SecretString>,
    timeout: Duration,
    rps: u32,
    is_idempotent: bool,
}

impl Gateway {
    /// Reads its secrets and tries its templates.
    pub fn new(gateway: &GatewaySettings, settings: &settings::Settings) -> anyhow::Result<Self> {
        Self::with_links(gateway, settings.links().context("sms")?)
            .with_context(|| format!("sms.gateways: {}", gateway.name))
    }

    fn with_links(gateway: &GatewaySettings, links: Option<Links>) -> anyhow::Result<Self> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        let is_name =
            (1..=NAME_BYTES_MAX).contains(&gateway.name.len()) && gateway.name.chars().all(is_plain);
        ensure!(is_name, "name: must be 1 to {NAME_BYTES_MAX} of a to z, 0 to 9, - and _");
        ensure!(!gateway.connect_timeout.is_zero(), "connect_timeout_ms: must not be 0");
        ensure!(!gateway.timeout.is_zero(), "timeout_ms: must not be 0");
        let secrets = secrets(gateway)?;
        report::check(gateway, &secrets).context("report")?;
        let shown = secrets.iter().map(|(name, secret)| (name.as_str(), secret.expose_secret()));
        let whole = gateway.connect_timeout + gateway.timeout;
        let client = client(gateway.connect_timeout, whole, gateway.ca_file.as_deref()).context("ca_file")?;
        Ok(Self {
            name: gateway.name.clone(),
            client: client.build().context("no client can be made")?,
            templates: Templates::new(gateway, Filling::from_pairs(shown))?,
            rules: Rules::new(gateway)?,
            links: links.filter(|_| report::is_by_link(gateway)),
            secrets,
            timeout: whole,
            rps: gateway.rps,
            is_idempotent: gateway.idempotency,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Messages a second; 0: as many as it takes.
    pub fn rps(&self) -> u32 {
        self.rps
    }

    /// The longest that an attempt takes: a lease must be longer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a message that may have arrived can be sent again: the gateway knows it by its id.
    pub fn resends_ambiguous(&self) -> bool {
        self.is_idempotent
    }

    /// One attempt.
    pub async fn send(&self, message: &Message) -> Answer {
        let Content::Sms { text } = &message.content else {
            return Answer::new(Outcome::Permanent, "no_sms", "");
        };
        if address::parse(Channel::Sms, &message.address).is_err() {
            let bounce = Some(Bounce::Gone);
            return Answer { bounce, ..Answer::new(Outcome::Permanent, "no_number", "") };
        }
        let id = message.id.to_string();
        let report_url = self.links.as_ref().map(|links| links.url(&self.name, message.id));
        let report_url = report_url.unwrap_or_default();
        let ucs2 = segments(text).encoding == Encoding::Ucs2;
        let values = Values { to: &message.address, text, id: &id, ucs2, report_url: &report_url };
        let filled = match self.templates.fill(&values) {
            Ok(filled) => filled,
            // With this text; the templates were tried at the start.
            Err(error) => return Answer::new(Outcome::Permanent, "cannot_fill", &format!("{error:#}")),
        };
        let mut request = self.client.request(filled.method, filled.url).headers(filled.headers);
        if let Some(body) = filled.body {
            request = request.body(body);
        }
        match exchange(request).await {
            Ok(reply) => {
                let digits = message.address.trim_start_matches('+');
                let secrets = self.secrets.values().map(ExposeSecret::expose_secret);
                let ours: Vec<&str> = [text, digits, &report_url].into_iter().chain(secrets).collect();
                self.rules.judge(&reply, &ours)
            }
            Err(answer) => answer,
        }
    }
}

/// All secrets of a gateway, by name.
fn secrets(gateway: &GatewaySettings) -> anyhow::Result<BTreeMap<String, SecretString>> {
    let mut secrets = BTreeMap::new();
    for name in gateway.secrets.keys().chain(gateway.secret_files.keys()) {
        ensure!(
            is_hidden(name),
            "secrets.{name}: the last word of its name (behind _, - or .) must be password, secret, token or \
             key, and not the only one if it is key: by that it is hidden where the configuration is printed"
        );
        let file = gateway.secret_files.get(name).map(std::path::PathBuf::as_path);
        let secret = value::secret(name, gateway.secrets.get(name), file).context("secrets")?;
        if let Some(secret) = secret {
            secrets.insert(name.clone(), secret);
        }
    }
    Ok(secrets)
}

/// As the kit's configuration knows secrets.
fn is_hidden(name: &str) -> bool {
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
    matches!(last, "password" | "secret" | "token") || (last == "key" && last.len() < name.len())
}
