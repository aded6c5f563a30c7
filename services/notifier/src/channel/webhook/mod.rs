//! Webhooks as Standard Webhooks describe them: a signed request to a URL that a user has named.
//!
//! The user chooses where we connect to, so [`guard`] keeps us out of our own network, redirects are not
//! followed, and little is read of an answer.

pub mod guard;
pub mod settings;
mod sign;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use latchline_shared::kit::clock;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};

use self::guard::Guard;
use self::settings::Settings;
use super::exchange::{self, Refused, Reply, client, exchange};
use super::{Answer, Bounce, Content, Message};
use crate::address;
use crate::event::Channel;
use crate::status::Outcome;

/// Whoever users have named.
pub struct Receiver {
    client: Client,
    guard: Arc<Guard>,
    timeout: Duration,
}

impl Receiver {
    /// Reads the files of the settings.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let guard = Arc::new(Guard::new(&settings.allowed_networks).context("webhook.allowed_networks")?);
        let client = client(settings.connect_timeout, settings.timeout, settings.ca_file.as_deref())
            .context("webhook.ca_file")?
            .dns_resolver(Arc::clone(&guard))
            .build()
            .context("no client can be made")?;
        Ok(Self { client, guard, timeout: settings.timeout })
    }

    /// Its name; each host is a provider of its own: [`host`].
    pub fn name(&self) -> &str {
        Channel::Webhook.name()
    }

    /// Messages a second: as many as they take.
    pub fn rps(&self) -> u32 {
        0
    }

    /// The longest that an attempt takes: a lease must be longer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a message that may have arrived can be sent again: the receiver knows it by its id.
    pub fn resends_ambiguous(&self) -> bool {
        true
    }

    /// One attempt.
    pub async fn send(&self, message: &Message) -> Answer {
        let Content::Webhook { body, secret } = &message.content else {
            return Answer::new(Outcome::Permanent, "no_webhook", "");
        };
        let Some(url) = url(&message.address) else {
            return Answer::new(Outcome::Permanent, "no_url", "");
        };
        if !self.guard.permits_host(&url) {
            return exchange::refused(&Refused);
        }
        // It was permitted when it was given, under another configuration perhaps.
        if !self.guard.permits_scheme(&url) {
            return Answer::new(Outcome::Permanent, "not_encrypted", "");
        }
        let (id, timestamp) = (message.id.to_string(), clock::unix_ms() / 1_000);
        let body = body.to_string();
        let signature = sign::signature(secret, &id, timestamp, &body);
        let request = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        match exchange(request).await {
            Ok(reply) => judge(&reply, &url),
            Err(answer) => answer,
        }
    }
}

/// Whom a message goes to, as breakers and metrics know it: `https://example.com:8443`.
pub fn host(address: &str) -> String {
    url(address).map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}

fn url(address: &str) -> Option<Url> {
    Url::parse(&address::parse(Channel::Webhook, address).ok()?).ok()
}

/// What an answer means. A receiver that does not let us in or is not there may be mended: it is asked
/// again, until the message expires. One that is gone for good says so with 410. Of 502 and 504 the
/// receiver may have taken it; it is asked again all the same, as it knows the message by its id.
fn judge(reply: &Reply, url: &Url) -> Answer {
    let (outcome, bounce) = match reply.status {
        200..=299 => (Outcome::Accepted, None),
        410 => (Outcome::Permanent, Some(Bounce::Gone)),
        401 | 403 | 404 | 407 => (Outcome::Unavailable, None),
        408 | 425 | 429 | 500.. => (Outcome::Transient, None),
        // 3xx: the address that we were given is wrong, and we go to no other.
        _ => (Outcome::Permanent, None),
    };
    let excerpt = if outcome == Outcome::Accepted { String::new() } else { said(reply, url) };
    let after = reply.after.filter(|_| matches!(outcome, Outcome::Transient | Outcome::Unavailable));
    Answer { bounce, after, ..Answer::new(outcome, format!("http {}", reply.status), &excerpt) }
}

/// What it said, without the parts of its address that may be a secret.
fn said(reply: &Reply, url: &Url) -> String {
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let secrets = [Some(url.as_str()), url.query(), Some(url.path())].into_iter().flatten();
    secrets.filter(|secret| secret.len() > 1).fold(text, |text, secret| text.replace(secret, "***"))
}
