//! Mails as messages.

use std::sync::Arc;

use latchline_notifier::sink::smtp::{Mail, MailServer};
use mail_parser::MessageParser;

use super::{Kind, Message, Messages, Part, Source};

/// The mails of a server.
pub fn source(server: &MailServer) -> Source {
    let watch = server.watch();
    let read = move |part: Part| {
        let (count, mails) = watch(part.before, part.limit);
        Messages { count, messages: mails.iter().map(message).collect() }
    };
    Source { kind: Kind::Mail, read: Arc::new(read) }
}

/// What a mail says. One that cannot be parsed is shown as it came.
fn message(mail: &Mail) -> Message {
    let id = mail.message_id.as_deref().unwrap_or_default();
    let id = id.trim_start_matches('<').split('@').next().unwrap_or_default().to_owned();
    let parsed = MessageParser::default().parse(&mail.raw);
    let text = parsed.as_ref().and_then(|parsed| parsed.body_text(0)).map(|text| text.into_owned());
    Message {
        id,
        at_ms: mail.at_ms,
        from: mail.from.clone(),
        to: mail.to.clone(),
        subject: parsed.as_ref().and_then(|parsed| parsed.subject()).map(str::to_owned),
        text: text.unwrap_or_else(|| String::from_utf8_lossy(&mail.raw).into_owned()),
        html: parsed.as_ref().and_then(|parsed| parsed.body_html(0)).map(|html| html.into_owned()),
    }
}
