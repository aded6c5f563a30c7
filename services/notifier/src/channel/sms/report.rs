//! Delivery reports: what a gateway says became of a message, read as its configuration tells. Pure; the
//! route is `http::report`.

use std::collections::{BTreeMap, HashMap};

use anyhow::ensure;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::gateway_settings::{GatewaySettings, Meaning, ReportAuth, ReportSettings};
use super::link::Links;
use super::settings::Settings;
use super::{judge, secrets};

/// The secret that a gateway with one fixed link shows.
const TOKEN: &str = "report_token";

/// How the reports of all gateways are read.
#[derive(Debug, Clone)]
pub struct Reports(HashMap<String, Reporter>);

/// How those of one are.
#[derive(Debug, Clone)]
pub struct Reporter {
    gateway: String,
    settings: ReportSettings,
    auth: Auth,
}

#[derive(Debug, Clone)]
enum Auth {
    Link(Links),
    /// Hash of the token.
    Token([u8; 32]),
}

/// What was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What it means; none: its status is not known.
    pub meaning: Option<Meaning>,
    /// The gateway's id of the message.
    pub provider_id: Option<String>,
}

/// What whoever reports has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// The link of this message.
    Link(Uuid),
    /// The gateway's token: it may report of all of its messages, by its own ids.
    Token,
}

impl Reports {
    /// Those of these gateways that report.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let links = settings.links()?;
        let mut reporters = HashMap::new();
        for gateway in &settings.gateways {
            let Some(report) = &gateway.report else { continue };
            let auth = match report.auth {
                ReportAuth::Link => links.clone().map(Auth::Link),
                ReportAuth::Token => secrets(gateway)?
                    .get(TOKEN)
                    .map(|token| Auth::Token(Sha256::digest(token.expose_secret()).into())),
            };
            if let Some(auth) = auth {
                let name = gateway.name.clone();
                reporters.insert(name.clone(), Reporter { gateway: name, settings: report.clone(), auth });
            }
        }
        Ok(Self(reporters))
    }

    /// How those of this gateway are read; none: it does not report.
    pub fn of(&self, gateway: &str) -> Option<&Reporter> {
        self.0.get(gateway)
    }
}

impl Reporter {
    /// What was shown by the fields of the link's query, if it is right.
    pub fn shown(&self, query: &[(String, String)]) -> Option<Shown> {
        let field = |wanted: &str| {
            let mut pairs = query.iter();
            pairs.find_map(|(name, value)| (name == wanted).then_some(value.as_str())).unwrap_or_default()
        };
        match &self.auth {
            Auth::Link(links) => {
                // An id that is none is checked like any other, for the time that it takes.
                let id = Uuid::parse_str(field("ref")).unwrap_or_default();
                links.is_ours(&self.gateway, id, field("mac")).then_some(Shown::Link(id))
            }
            Auth::Token(hash) => {
                let shown: [u8; 32] = Sha256::digest(field("token")).into();
                bool::from(shown.ct_eq(hash)).then_some(Shown::Token)
            }
        }
    }

    /// What is reported, in a JSON body or in the fields of a form or a query.
    pub fn read(&self, body: &Value, fields: &[(String, String)]) -> Report {
        let find = |path: &str| {
            judge::at(body, path).or_else(|| {
                // The last one: a link has fields of its own before those that the gateway adds.
                let mut pairs = fields.iter().rev();
                pairs.find_map(|(name, value)| (name == path).then(|| value.clone()))
            })
        };
        let ReportSettings { status_path, id_path, code_path, map, gone_codes, .. } = &self.settings;
        let meaning = find(status_path).and_then(|status| map.get(&status).copied());
        let code = code_path.as_deref().and_then(find);
        let is_gone = gone_codes.iter().any(|gone| Some(&gone.0) == code.as_ref());
        let meaning = match meaning {
            Some(Meaning::Undelivered) if is_gone => Some(Meaning::Gone),
            other => other,
        };
        Report { meaning, provider_id: id_path.as_deref().and_then(find) }
    }
}

/// What is wrong with how a gateway's reports are to be read.
pub(super) fn check(
    gateway: &GatewaySettings,
    secrets: &BTreeMap<String, SecretString>,
) -> anyhow::Result<()> {
    let Some(report) = &gateway.report else { return Ok(()) };
    ensure!(!report.map.is_empty(), "map: must not be empty");
    if report.auth == ReportAuth::Token {
        ensure!(secrets.contains_key(TOKEN), "auth: a token needs secrets.{TOKEN}");
        ensure!(report.id_path.is_some(), "auth: a token needs id_path");
    }
    Ok(())
}

/// Whether its messages carry a link.
pub(super) fn is_by_link(gateway: &GatewaySettings) -> bool {
    gateway.report.as_ref().is_some_and(|report| report.auth == ReportAuth::Link)
}
