//! How messages leave: e-mail, SMS, webhook. Each takes a [`Message`], makes one attempt, and says
//! how it ended; when and whether there is another attempt is delivery's business.
//!
//! Invariant: what a provider says, or does not say, is an [`Answer`], never an error of ours.

pub mod email;
mod exchange;
pub mod sms;
pub mod webhook;

use std::time::Duration;

use latchline_shared::text;
use uuid::Uuid;

use crate::event::{EventType, Severity};
use crate::status::Outcome;

/// Longest excerpt of a provider's words that is kept.
pub const EXCERPT_CHARS_MAX: usize = 200;

/// A message that is ready to be sent.
#[derive(Debug, Clone)]
pub struct Message {
    /// The notification; the same in every attempt.
    pub id: Uuid,
    /// Where to. Its `Debug` shows it in full: log [`crate::address::masked`].
    pub address: String,
    /// What happened.
    pub event_type: EventType,
    /// How bad it is.
    pub severity: Severity,
    /// When it happened, in Unix milliseconds.
    pub at_ms: i64,
    /// What is sent.
    pub content: Content,
}

/// What is sent, by channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An e-mail.
    Email {
        /// One line.
        subject: String,
        /// The text.
        text: String,
        /// The same as a page.
        html: String,
    },
    /// An SMS.
    Sms {
        /// The text.
        text: String,
    },
    /// A webhook.
    Webhook {
        /// The body.
        body: serde_json::Value,
        /// The key of its signature.
        secret: Vec<u8>,
    },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The class, which decides what follows.
    pub outcome: Outcome,
    /// What the provider calls the message.
    pub provider_id: Option<String>,
    /// The provider's code ("250", "550 5.1.1", "http 429"), or a word of ours ("timeout").
    pub code: String,
    /// The beginning of what it said, without addresses and secrets of ours.
    pub excerpt: String,
    /// Not again before.
    pub after: Option<Duration>,
    /// What it says of the address.
    pub bounce: Option<Bounce>,
}

/// What a refusal says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounce {
    /// There is nobody there: it is not used any more.
    Gone,
    /// It refused this message: twice in a row is as bad as gone.
    Hard,
}

impl Answer {
    /// An answer of this class.
    pub fn new(outcome: Outcome, code: impl Into<String>, excerpt: &str) -> Self {
        let excerpt = excerpt.chars().map(|c| if c.is_control() { ' ' } else { c });
        let excerpt: String = excerpt.take(EXCERPT_CHARS_MAX).collect();
        let code = text::bounded(&code.into());
        Self { outcome, provider_id: None, code, excerpt, after: None, bounce: None }
    }
}
