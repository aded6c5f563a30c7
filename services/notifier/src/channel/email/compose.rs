//! An e-mail's bytes. Pure.
//!
//! Invariant: the head is one address, one subject and words of ours, whatever the message holds: no
//! line of a text becomes a line of the head. The bytes are ASCII but for an address that is not.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message as Email};
use reqwest::Url;
use uuid::Uuid;

/// Longest subject, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// From whom mail is.
#[derive(Debug, Clone)]
pub struct Sender {
    /// As it is shown.
    pub mailbox: Mailbox,
    /// The right side of Message-ID, and what we call ourselves to mail servers.
    pub host: String,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Letter<'a> {
    /// The notification.
    pub id: Uuid,
    /// One line.
    pub subject: &'a str,
    /// The text.
    pub text: &'a str,
    /// The same as a page.
    pub html: &'a str,
    /// When it is sent, in Unix milliseconds.
    pub at_ms: u64,
}

impl Sender {
    /// This one.
    pub fn new(mailbox: Mailbox) -> Result<Self, &'static str> {
        let mailbox = Mailbox::new(mailbox.name, ascii_host(&mailbox.email)?);
        let host = mailbox.email.domain().to_owned();
        Ok(Self { mailbox, host })
    }

    /// Its Message-ID: the same in every attempt, so that whoever gets it twice can see that.
    pub fn message_id(&self, id: Uuid) -> String {
        format!("<{id}@{}>", self.host)
    }

    /// The whole message.
    pub fn compose(&self, to: &Address, letter: Letter<'_>) -> Result<Vec<u8>, String> {
        let words =
            |name, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
        let email = Email::builder()
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(letter.at_ms))
            .from(self.mailbox.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(line(letter.subject))
            .message_id(Some(self.message_id(letter.id)))
            // Nobody's absence is told to a machine (RFC 3834; the other is Exchange's word for it).
            .raw_header(words("Auto-Submitted", "auto-generated"))
            .raw_header(words("X-Auto-Response-Suppress", "All"))
            .multipart(MultiPart::alternative_plain_html(lines(letter.text), lines(letter.html)))
            .map_err(|error| error.to_string())?;
        let mut bytes = email.formatted();
        // The line that ends the message brings its own.
        if bytes.ends_with(b"\r\n") {
            bytes.truncate(bytes.len() - 2);
        }
        Ok(bytes)
    }
}

/// An address whose host is written in ASCII, as mail servers understand it (RFC 5891).
pub fn ascii_host(address: &Address) -> Result<Address, &'static str> {
    if address.domain().is_ascii() {
        return Ok(address.clone());
    }
    let url = Url::parse(&format!("http://{}", address.domain())).map_err(|_| "its host is none")?;
    let host = url.domain().ok_or("its host is none")?;
    Address::new(address.user(), host).map_err(|_| "it is no address")
}

/// A text as one line.
fn line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.trim().chars().take(SUBJECT_CHARS_MAX).collect()
}

/// A text whose lines end in one way; the writer of the message makes CR LF of it.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "\u{fffd}")
}
