//! The `[email]` table.

use std::path::PathBuf;
use std::time::Duration;

use latchline_shared::kit::config::{Validate, value};
use lettre::message::Mailbox;
use secrecy::SecretString;
use serde::Deserialize;

/// The port for mail from people and programs (RFC 6409).
const PORT: u16 = 587;

/// Mail servers that take our mail, and how it is given to them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// In the order in which they are used; none: no e-mail.
    #[serde(deserialize_with = "value::list")]
    pub relays: Vec<RelaySettings>,
    /// From whom.
    pub from: String,
    /// Messages under way at once.
    pub concurrency: usize,
    /// As many more for critical ones alone.
    pub concurrency_critical: usize,
    /// To be connected, greeted, encrypted and let in.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "value::milliseconds")]
    pub connect_timeout: Duration,
    /// From a message's MAIL to the answer to its last byte.
    #[serde(rename = "send_timeout_ms", deserialize_with = "value::milliseconds")]
    pub send_timeout: Duration,
    /// A connection without work is closed after so long.
    #[serde(rename = "idle_ms", deserialize_with = "value::milliseconds")]
    pub idle: Duration,
}

/// A mail server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// In attempts and metrics.
    pub name: String,
    /// The name that it proves by its certificate.
    pub host: String,
    /// TCP port.
    #[serde(default = "port")]
    pub port: u16,
    /// Encryption.
    #[serde(default)]
    pub tls: Tls,
    /// Who we are to it; without, nobody.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<SecretString>,
    /// File that holds it.
    pub password_file: Option<PathBuf>,
    /// Authorities of its certificate, PEM; without it those of the system.
    pub ca_file: Option<PathBuf>,
    /// Messages a second; 0: as many as it takes.
    #[serde(default)]
    pub rps: u32,
}

/// Encryption of the connection to a mail server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// By the command of this name; a server that does not know it gets nothing.
    #[default]
    Starttls,
    /// From the first byte.
    Tls,
    /// None: for a network of one's own.
    None,
}

fn port() -> u16 {
    PORT
}

impl Settings {
    /// From whom, in parts.
    pub fn sender(&self) -> Result<Mailbox, String> {
        if self.from.chars().any(char::is_control) {
            return Err("must not hold control characters".to_owned());
        }
        self.from.parse().map_err(|_| "is neither user@host nor \"Name <user@host>\"".to_owned())
    }
}

impl RelaySettings {
    /// Who we are to it.
    pub fn credentials(&self) -> anyhow::Result<Option<(String, SecretString)>> {
        let password = value::secret("password", self.password.as_ref(), self.password_file.as_deref())?;
        match (&self.user, password) {
            (Some(user), Some(password)) => Ok(Some((user.clone(), password))),
            (None, None) => Ok(None),
            (Some(_), None) => anyhow::bail!("password: must be set with user"),
            (None, Some(_)) => anyhow::bail!("user: must be set with password"),
        }
    }

    fn problems(&self, place: &str, problems: &mut Vec<String>) {
        if self.name.is_empty() {
            problems.push(format!("{place}.name: must not be empty"));
        }
        if self.host.is_empty() || self.host.chars().any(|c| c.is_whitespace() || c.is_control()) {
            problems.push(format!("{place}.host: is no host"));
        }
        if self.port == 0 {
            problems.push(format!("{place}.port: must not be 0"));
        }
        match self.credentials() {
            Err(error) => problems.push(format!("{place}.{error:#}")),
            Ok(Some(_)) if self.tls == Tls::None => {
                problems.push(format!("{place}.password: would go unencrypted, {place}.tls is \"none\""));
            }
            Ok(_) => {}
        }
        match &self.ca_file {
            Some(_) if self.tls == Tls::None => {
                problems.push(format!("{place}.ca_file: is not used, {place}.tls is \"none\""));
            }
            file => value::check_readable(&format!("{place}.ca_file"), file.as_deref(), problems),
        }
    }
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        for (index, relay) in self.relays.iter().enumerate() {
            relay.problems(&format!("email.relays[{index}]"), problems);
            if self.relays[..index].iter().any(|other| other.name == relay.name) {
                problems.push(format!("email.relays[{index}].name: is taken"));
            }
        }
        match self.sender() {
            Err(_) if self.relays.is_empty() && self.from.is_empty() => {}
            Err(why) => problems.push(format!("email.from: {why}")),
            Ok(_) => {}
        }
        if self.concurrency == 0 {
            problems.push("email.concurrency: must not be 0".to_owned());
        }
        for (name, duration) in [
            ("connect_timeout_ms", self.connect_timeout),
            ("send_timeout_ms", self.send_timeout),
            ("idle_ms", self.idle),
        ] {
            if duration.is_zero() {
                problems.push(format!("email.{name}: must not be 0"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut toml::Table)) -> Vec<String> {
        let mut table: toml::Table = crate::settings::DEFAULT_TOML.parse().unwrap();
        let Some(toml::Value::Table(email)) = table.get_mut("email") else { panic!("no table") };
        change(email);
        let settings: Settings = toml::Value::Table(email.clone()).try_into().unwrap();
        let mut problems = Vec::new();
        settings.problems(&mut problems);
        problems
    }

    fn relays(table: &mut toml::Table, from: &str, relays: &str) {
        table.insert("from".to_owned(), from.into());
        let relays: toml::Table = format!("relays = [{relays}]").parse().unwrap();
        table.extend(relays);
    }

    #[test]
    fn what_cannot_work_is_named() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
        for (from, relay, expected) in [
            ("locks@example.com", r#"{ name = "a", host = "mail" }"#, ""),
            ("Locks <locks@example.com>", r#"{ name = "a", host = "mail", tls = "none", port = 25 }"#, ""),
            ("locks@example.com", r#"{ name = "a", host = "mail", user = "u", password = "p" }"#, ""),
            ("", r#"{ name = "a", host = "mail" }"#, "email.from: is neither"),
            ("a@b\r\nBcc: c@d", r#"{ name = "a", host = "mail" }"#, "email.from: must not hold control"),
            ("a@example.com", r#"{ name = "", host = "mail" }"#, "email.relays[0].name"),
            ("a@example.com", r#"{ name = "a", host = "a b" }"#, "email.relays[0].host"),
            ("a@example.com", r#"{ name = "a", host = "b", port = 0 }"#, "email.relays[0].port"),
            ("a@example.com", r#"{ name = "a", host = "b", user = "u" }"#, "email.relays[0].password"),
            ("a@example.com", r#"{ name = "a", host = "b", password = "u" }"#, "email.relays[0].user"),
            (
                "a@example.com",
                r#"{ name = "a", host = "b", user = "u", password = "p", tls = "none" }"#,
                "email.relays[0].password: would go unencrypted",
            ),
            ("a@example.com", r#"{ name = "a", host = "b", ca_file = "/none" }"#, "email.relays[0].ca_file"),
            (
                "a@example.com",
                r#"{ name = "a", host = "b" }, { name = "a", host = "c" }"#,
                "email.relays[1].name",
            ),
        ] {
            let found = problems(|table| relays(table, from, relay));
            match found.as_slice() {
                [] => assert_eq!(expected, "", "{relay}"),
                [problem] => {
                    assert!(!expected.is_empty() && problem.starts_with(expected), "{relay}: {problem}")
                }
                more => panic!("{relay}: {more:?}"),
            }
        }
        let zero = problems(|table| {
            for key in ["concurrency", "connect_timeout_ms", "send_timeout_ms", "idle_ms"] {
                table.insert(key.to_owned(), 0.into());
            }
        });
        assert_eq!(zero.len(), 4, "{zero:?}");
    }
}
