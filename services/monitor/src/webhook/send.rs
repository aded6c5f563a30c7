//! One attempt to send a group.
//!
//! Everything that goes wrong is an [`Answer`]: what a receiver says is never an error of ours. Its
//! words are not logged, and neither is the address, which may hold a secret.

use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::payload::Group;
use super::queue::Row;
use super::settings::Settings;

/// What is read of an answer, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a receiver said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has them.
    Taken {
        /// Its status.
        status: u16,
    },
    /// It will never take them.
    Refused {
        /// Its status.
        status: u16,
    },
    /// It may take them later.
    Failed {
        /// Its status; 0 without an answer.
        status: u16,
        /// Not before.
        after: Option<Duration>,
        /// What happened.
        why: String,
    },
}

/// Sends groups to the receiver.
pub struct Sender {
    client: Client,
    url: Url,
    token: Option<SecretString>,
    receiver: String,
    external_url: String,
}

impl Sender {
    /// Reads the files of the settings; none without a receiver.
    pub fn new(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let url = settings.receiver_url().map_err(|why| anyhow::anyhow!("url: {why}"))?;
        let Some(url) = url else { return Ok(None) };
        let mut client = Client::builder()
            .user_agent(concat!("latchline-monitor/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .timeout(settings.timeout)
            // A receiver elsewhere is nobody whom we were told to trust, and attempts are counted here.
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy();
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let authorities = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("{} is not PEM", path.display()))?;
            anyhow::ensure!(!authorities.is_empty(), "{} holds no certificate", path.display());
            client = client.tls_certs_only(authorities);
        }
        Ok(Some(Self {
            client: client.build().context("no client can be made")?,
            url,
            token: settings.token()?,
            receiver: settings.receiver.clone(),
            external_url: settings.external_url.clone(),
        }))
    }

    /// One attempt.
    pub async fn send(&self, rows: &[Row]) -> Answer {
        let alerts: Vec<&Value> = rows.iter().map(|row| &row.body).collect();
        let group = Group::new(&alerts, &self.receiver, &self.external_url);
        let mut request = self.client.post(self.url.clone()).json(&group);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        match request.send().await {
            Ok(response) => {
                let answer = of_status(response.status(), response.headers(), Timestamp::now());
                drain(response).await;
                answer
            }
            Err(error) => {
                let why = format!("{:#}", anyhow::Error::new(error.without_url()));
                Answer::Failed { status: 0, after: None, why }
            }
        }
    }
}

/// Reads what is left of an answer, if that is little.
async fn drain(mut response: Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = response.chunk().await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

/// What a status means for whoever sent.
fn of_status(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Answer {
    let number = status.as_u16();
    if status.is_success() {
        Answer::Taken { status: number }
    } else if status.is_client_error() && !says_nothing_of_alerts(status) {
        Answer::Refused { status: number }
    } else {
        let after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
        Answer::Failed { status: number, after, why: format!("status {number}") }
    }
}

/// Whether it is about the token, the address, a proxy or the moment: once that is mended, the same
/// alerts are taken.
fn says_nothing_of_alerts(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 405 | 407 | 408 | 410 | 421 | 423 | 425 | 429)
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let wait: SignedDuration = at.duration_since(now);
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_to_try_again() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        for (status, expected) in [
            (200, "taken"),
            (204, "taken"),
            (301, "failed"),
            (400, "refused"),
            (401, "failed"),
            (402, "refused"),
            (403, "failed"),
            (404, "failed"),
            (405, "failed"),
            (406, "refused"),
            (407, "failed"),
            (408, "failed"),
            (409, "refused"),
            (410, "failed"),
            (413, "refused"),
            (421, "failed"),
            (422, "refused"),
            (423, "failed"),
            (425, "failed"),
            (429, "failed"),
            (500, "failed"),
            (503, "failed"),
        ] {
            let answer = of_status(StatusCode::from_u16(status).unwrap(), &headers, Timestamp::UNIX_EPOCH);
            let (word, number) = match answer {
                Answer::Taken { status } => ("taken", status),
                Answer::Refused { status } => ("refused", status),
                Answer::Failed { status, after, .. } => {
                    assert_eq!(after, Some(Duration::from_secs(7)));
                    ("failed", status)
                }
            };
            assert_eq!((word, number), (expected, status));
        }
    }

    #[test]
    fn a_receiver_can_ask_for_a_pause() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        }
    }
}
