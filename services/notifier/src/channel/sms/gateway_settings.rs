//! The keys of one gateway, and the presets that give most of them: `config/sms-gateways.toml` explains both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::value;
use latchline_shared::words;
use secrecy::SecretString;
use serde::Deserialize;
use toml::{Table, Value};

/// The presets.
pub const PRESETS_TOML: &str = include_str!("../../../../../config/sms-gateways.toml");

words! {
    /// How it is asked.
    Method {
        /// Without a body.
        Get = "GET",
        /// The usual one.
        Post = "POST",
        /// Some like it.
        Put = "PUT",
    }
}

words! {
    /// Where what is sent goes.
    Encode {
        /// Behind the URL.
        Query = "query",
        /// A body like a browser's.
        Form = "form",
        /// A JSON body.
        Json = "json",
    }
}

words! {
    /// What a delivery report can mean.
    Meaning {
        /// It arrived.
        Delivered = "delivered",
        /// It did not.
        Undelivered = "undelivered",
        /// It did not, and nobody is there.
        Gone = "gone",
        /// Nothing yet.
        None = "none",
    }
}

words! {
    /// How a report shows that it is one.
    ReportAuth {
        /// By the link that went with the message.
        Link = "link",
        /// By a token of the gateway.
        Token = "token",
    }
}

/// One gateway, its preset filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// In logs, metrics and links.
    pub name: String,
    /// Where the other keys come from; it was filled in.
    pub preset: Option<String>,
    /// How it is asked.
    #[serde(default = "post")]
    pub method: Method,
    /// Where; a template of settings and secrets.
    pub url: String,
    /// Where params go.
    pub encode: Encode,
    /// What is sent; texts are templates.
    #[serde(default)]
    pub params: Table,
    /// Further headers; templates.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is shown to it.
    #[serde(default)]
    pub auth: Auth,
    /// Texts for templates.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The same, secret.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretString>,
    /// The same, each in a file.
    #[serde(default)]
    pub secret_files: BTreeMap<String, PathBuf>,
    /// The sender.
    #[serde(default)]
    pub from: String,
    /// To be connected.
    #[serde(
        rename = "connect_timeout_ms",
        default = "connect_timeout",
        deserialize_with = "value::milliseconds"
    )]
    pub connect_timeout: Duration,
    /// What all may take beyond that, to the end of the answer: one time over both.
    #[serde(rename = "timeout_ms", default = "timeout", deserialize_with = "value::milliseconds")]
    pub timeout: Duration,
    /// Authorities of its certificate.
    pub ca_file: Option<PathBuf>,
    /// Messages a second; 0: any.
    #[serde(default)]
    pub rps: u32,
    /// What must hold so that a message was taken.
    pub success: Success,
    /// Where its answer has the message's id.
    pub id_path: Option<String>,
    /// The same, a regular expression.
    pub id_regex: Option<String>,
    /// Where its answer has the error's code.
    pub error_path: Option<String>,
    /// The same, a regular expression.
    pub error_regex: Option<String>,
    /// Never.
    #[serde(default)]
    pub permanent_codes: Vec<Code>,
    /// Never: nobody is there.
    #[serde(default)]
    pub gone_codes: Vec<Code>,
    /// Later.
    #[serde(default)]
    pub transient_codes: Vec<Code>,
    /// It does not talk to us.
    #[serde(default)]
    pub unavailable_codes: Vec<Code>,
    /// Further statuses that mean never.
    #[serde(default)]
    pub permanent_statuses: Vec<StatusPattern>,
    /// Whether it sends what it gets twice once.
    #[serde(default)]
    pub idempotency: bool,
    /// How its reports are read.
    pub report: Option<ReportSettings>,
}

/// What is shown to a gateway; templates of settings and secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Auth {
    /// Nothing, or it is among the params.
    #[default]
    None,
    /// RFC 7617.
    Basic {
        /// Who.
        user: String,
        /// And its password.
        password: String,
    },
    /// RFC 6750.
    Bearer {
        /// The token.
        token: String,
    },
    /// A header of its own.
    Header {
        /// Which.
        name: String,
        /// What it holds.
        value: String,
    },
}

/// What must hold so that a message was taken: all of what is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// One of these.
    pub status: Vec<StatusPattern>,
    /// The body is like this.
    pub body_regex: Option<String>,
    /// This is there.
    pub path: Option<String>,
    /// And it is this.
    pub equals: Option<Code>,
}

/// How delivery reports are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportSettings {
    /// Where the status stands.
    pub status_path: String,
    /// Where the message's id stands.
    pub id_path: Option<String>,
    /// Where the error's code stands.
    pub code_path: Option<String>,
    /// What a status means.
    pub map: BTreeMap<String, Meaning>,
    /// Codes of what did not arrive because nobody is there.
    #[serde(default)]
    pub gone_codes: Vec<Code>,
    /// How it shows that it is one.
    #[serde(default = "link")]
    pub auth: ReportAuth,
}

/// A code, as text; numbers are taken too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "NumberOrText")]
pub struct Code(pub String);

/// A status, or all that begin like it: 404, "404", "4xx".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "NumberOrText")]
pub enum StatusPattern {
    /// This one.
    One(u16),
    /// A hundred of them, by the first digit.
    Class(u16),
}

impl StatusPattern {
    /// Whether it is one of them.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => class == status / 100,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl std::fmt::Display for NumberOrText {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(formatter),
            Self::Text(text) => text.fmt(formatter),
        }
    }
}

impl From<NumberOrText> for Code {
    fn from(code: NumberOrText) -> Self {
        Self(code.to_string())
    }
}

impl TryFrom<NumberOrText> for StatusPattern {
    type Error = String;

    fn try_from(pattern: NumberOrText) -> Result<Self, String> {
        let text = pattern.to_string();
        let (digits, is_class) = match text.strip_suffix("xx") {
            Some(digits) => (digits, true),
            None => (text.as_str(), false),
        };
        match digits.parse() {
            Ok(class @ 1..=5) if is_class => Ok(Self::Class(class)),
            Ok(status @ 100..=599) if !is_class => Ok(Self::One(status)),
            _ => Err(format!("{text} is no status: 100 to 599, or 1xx to 5xx")),
        }
    }
}

/// A gateway as it is written, which its preset completes.
#[derive(Deserialize)]
#[serde(try_from = "Table")]
pub(super) struct Merged(pub(super) GatewaySettings);

impl TryFrom<Table> for Merged {
    type Error = String;

    fn try_from(own: Table) -> Result<Self, String> {
        let merged = match own.get("preset") {
            None => own,
            Some(name) => merge(preset(name.as_str().unwrap_or_default())?, own),
        };
        GatewaySettings::deserialize(merged).map(Self).map_err(|error| error.message().to_owned())
    }
}

fn preset(name: &str) -> Result<Table, String> {
    let mut presets: Table =
        toml::from_str(PRESETS_TOML).map_err(|error| format!("built-in presets: {}", error.message()))?;
    match presets.remove(name) {
        Some(Value::Table(preset)) => Ok(preset),
        _ => {
            let names: Vec<String> = presets.keys().cloned().collect();
            Err(format!("preset: there is none of this name, only {}", names.join(", ")))
        }
    }
}

/// What is given wins; of tables, key by key, but for `auth`, whose keys belong to its kind.
fn merge(mut preset: Table, own: Table) -> Table {
    for (key, value) in own {
        match (preset.get_mut(&key), value) {
            (Some(Value::Table(theirs)), Value::Table(ours)) if key != "auth" => theirs.extend(ours),
            (_, value) => drop(preset.insert(key, value)),
        }
    }
    preset
}

fn post() -> Method {
    Method::Post
}

fn link() -> ReportAuth {
    ReportAuth::Link
}

fn connect_timeout() -> Duration {
    Duration::from_secs(3)
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}
