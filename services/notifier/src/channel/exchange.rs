//! One HTTP request and its answer, for the channels that speak HTTP: what went wrong, told by whether the
//! other side may have got the request.
//!
//! Invariant: what was certainly not sent is `unavailable`; what may have been is `ambiguous`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder};

use super::Answer;
use crate::status::Outcome;

/// What is read of an answer.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The longest pause that can be asked for.
pub(super) const AFTER_MAX: Duration = Duration::from_secs(3_600);

/// An idle connection is used again for so long only: a server that closes it just when it is used makes
/// a message ambiguous that it never got.
const IDLE_MAX: Duration = Duration::from_secs(1);

/// An answer, of any status.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its status.
    pub(super) status: u16,
    /// Not again before.
    pub(super) after: Option<Duration>,
    /// Its body, or the beginning of one that is too long or breaks off.
    pub(super) body: Vec<u8>,
}

/// The address is one that we do not connect to; a resolver's error.
#[derive(Debug, thiserror::Error)]
#[error("no address of it is permitted")]
pub(super) struct Refused;

/// What follows: nothing was sent, and will not be.
pub(super) fn refused(refused: &Refused) -> Answer {
    Answer::new(Outcome::Permanent, "address_refused", &refused.to_string())
}

/// A client that tells all, and does nothing by itself: no redirects, no retries, no proxy.
pub(super) fn client(
    connect: Duration,
    whole: Duration,
    ca_file: Option<&Path>,
) -> anyhow::Result<ClientBuilder> {
    let mut client = Client::builder()
        .user_agent(concat!("latchline-notifier/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect)
        .timeout(whole)
        .pool_idle_timeout(IDLE_MAX)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy();
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let authorities =
            Certificate::from_pem_bundle(&pem).with_context(|| format!("{} is not PEM", path.display()))?;
        anyhow::ensure!(!authorities.is_empty(), "{} holds no certificate", path.display());
        client = client.tls_certs_only(authorities);
    }
    Ok(client)
}

/// Sends it, and reads the answer. Without one, how that is to be taken.
pub(super) async fn exchange(request: RequestBuilder) -> Result<Reply, Answer> {
    let mut response = request.send().await.map_err(unanswered)?;
    let status = response.status().as_u16();
    let after = retry_after(response.headers(), Timestamp::now());
    let mut body = Vec::new();
    // The status is known; what it means when the body breaks off, the reader knows.
    while let Ok(Some(chunk)) = response.chunk().await {
        let left = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if chunk.len() > left {
            break;
        }
    }
    Ok(Reply { status, after, body })
}

fn unanswered(error: reqwest::Error) -> Answer {
    if let Some(why) = cause(&error) {
        return refused(why);
    }
    let (outcome, code) = if error.is_connect() {
        (Outcome::Unavailable, if error.is_timeout() { "connect_timeout" } else { "cannot_connect" })
    } else if error.is_builder() {
        (Outcome::Permanent, "cannot_ask")
    } else if was_not_sent(&error) {
        (Outcome::Unavailable, "not_sent")
    } else if error.is_timeout() {
        (Outcome::Ambiguous, "timeout")
    } else {
        (Outcome::Ambiguous, "no_answer")
    };
    // The address may be a secret.
    Answer::new(outcome, code, &format!("{:#}", anyhow::Error::new(error.without_url())))
}

/// Whether the connection was found closed before anything was written.
fn was_not_sent(error: &reqwest::Error) -> bool {
    cause(error).is_some_and(hyper::Error::is_canceled)
}

/// The first error of this type that led to it.
fn cause<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    let mut chain = std::iter::successors(error.source(), |error| (*error).source());
    chain.find_map(|error| error.downcast_ref())
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            let wait: SignedDuration = at.duration_since(now);
            Duration::try_from(wait).unwrap_or_default()
        }
    };
    Some(after.min(AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_can_be_asked_for() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        for (value, expected) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("86400", Some(3_600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value}");
        }
    }
}
