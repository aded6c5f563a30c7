//! The `[sms]` table.

use std::path::PathBuf;

use latchline_shared::kit::config::{Validate, value};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::Gateway;
use super::gateway_settings::{GatewaySettings, Merged};
use super::link::Links;

/// Shortest key that signs links.
const REPORT_KEY_BYTES_MIN: usize = 16;

/// Gateways, and what holds for all of them.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// In the order in which they are used.
    #[serde(deserialize_with = "gateways")]
    pub gateways: Vec<GatewaySettings>,
    /// Messages under way at once.
    pub concurrency: usize,
    /// As many more for critical ones alone.
    pub concurrency_critical: usize,
    /// Where gateways reach this process; none: no links, and reports by token alone.
    #[serde(deserialize_with = "value::optional")]
    pub public_url: Option<String>,
    /// Signs the links for reports.
    #[serde(deserialize_with = "value::optional")]
    pub report_key: Option<SecretString>,
    /// The file that holds it.
    #[serde(deserialize_with = "value::optional")]
    pub report_key_file: Option<PathBuf>,
}

impl Settings {
    /// What makes and checks the links for reports; none: there are no links.
    pub fn links(&self) -> anyhow::Result<Option<Links>> {
        let key = value::secret("report_key", self.report_key.as_ref(), self.report_key_file.as_deref())?;
        let Some(public_url) = &self.public_url else { return Ok(None) };
        let key = key.ok_or_else(|| anyhow::anyhow!("report_key: is needed with public_url"))?;
        let is_long = key.expose_secret().len() >= REPORT_KEY_BYTES_MIN;
        anyhow::ensure!(is_long, "report_key: must have at least {REPORT_KEY_BYTES_MIN} bytes");
        let url = Url::parse(public_url).map_err(|_| anyhow::anyhow!("public_url: is no URL"))?;
        let is_plain = matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none();
        anyhow::ensure!(is_plain, "public_url: must be http:// or https:// without a query");
        // A link is filled into templates of gateways, some of which know escapes of their own.
        anyhow::ensure!(!url.as_str().contains('%'), "public_url: must not hold %");
        Ok(Some(Links::new(url.as_str(), key)))
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.concurrency == 0 {
            problems.push("sms.concurrency: must not be 0".to_owned());
        }
        let links = match self.links() {
            Ok(links) => links,
            Err(error) => {
                problems.push(format!("sms.{error:#}"));
                None
            }
        };
        for (index, gateway) in self.gateways.iter().enumerate() {
            if let Err(error) = Gateway::with_links(gateway, links.clone()) {
                problems.push(format!("sms.gateways[{index}]: {}: {error:#}", gateway.name));
            }
            if self.gateways[..index].iter().any(|other| other.name == gateway.name) {
                problems.push(format!("sms.gateways[{index}]: {}: is there twice", gateway.name));
            }
        }
    }
}

fn gateways<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GatewaySettings>, D::Error> {
    let merged: Vec<Merged> = value::list(deserializer)?;
    Ok(merged.into_iter().map(|Merged(gateway)| gateway).collect())
}
