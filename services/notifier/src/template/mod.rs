//! The words: templates, phrases, and how they are filled.

mod payload;
pub mod settings;

use std::path::Path;

use jiff::tz::TimeZone;
use uuid::Uuid;

use crate::event::{Channel, EventType, Facts, Severity};

/// All templates and phrases.
#[derive(Debug)]
pub struct Templates(());

/// A message's words, by channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Rendered {
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
        /// One segment.
        text: String,
    },
    /// A webhook.
    Webhook {
        /// The body.
        body: serde_json::Value,
    },
}

impl Templates {
    /// Those that are built in, and what the folder has instead.
    pub fn load(folder: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(folder) = folder {
            std::fs::read_dir(folder)?;
        }
        Ok(Self(()))
    }

    /// The words of a notification.
    #[expect(clippy::too_many_arguments, reason = "each is another thing, and there is one caller")]
    pub fn render(
        &self,
        channel: Channel,
        event: EventType,
        severity: Severity,
        _locale: &str,
        zone: &TimeZone,
        id: Uuid,
        facts: &Facts,
    ) -> Result<Rendered, String> {
        let time =
            payload::timestamp(facts.at_ms).to_zoned(zone.clone()).strftime("%-m/%-d %H:%M").to_string();
        let subject = format!("{event} {time}");
        Ok(match channel {
            Channel::Email => Rendered::Email { text: subject.clone(), html: subject.clone(), subject },
            Channel::Sms => Rendered::Sms { text: subject },
            Channel::Webhook => Rendered::Webhook { body: payload::body(event, severity, id, facts) },
        })
    }
}
