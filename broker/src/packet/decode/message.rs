//! What PUBLISH and the will in CONNECT have in common: topic and message properties.

use bytestring::ByteString;
use latchline_shared::message::Properties;
use latchline_shared::topic;

use super::flaw::Flaw;
use super::property::NOT_ALLOWED;
use super::reader::Reader;
use crate::packet::types::reason;
use crate::packet::wire::property;

/// Properties of a message. Those that are only passed on cost no allocation unless there are any.
#[derive(Debug, Default)]
pub(super) struct MessageProperties {
    pub(super) expiry_s: Option<u32>,
    pub(super) passed_on: Option<Box<Properties>>,
}

impl MessageProperties {
    /// Reads the property `id`.
    pub(super) fn read(&mut self, id: u8, value: &mut Reader) -> Result<(), Flaw> {
        if id == property::MESSAGE_EXPIRY {
            self.expiry_s = Some(value.u32()?);
            return Ok(());
        }
        let passed_on = self.passed_on.get_or_insert_default();
        match id {
            property::PAYLOAD_FORMAT => passed_on.utf8_payload = Some(value.bool()?),
            property::CONTENT_TYPE => passed_on.content_type = Some(value.text()?),
            property::RESPONSE_TOPIC => {
                let topic = value.text()?;
                check_topic(&topic, "response topic is not a topic name")?;
                passed_on.response_topic = Some(topic);
            }
            property::CORRELATION_DATA => passed_on.correlation_data = Some(value.binary()?),
            property::USER => passed_on.user.push((value.text()?, value.text()?)),
            _ => return Err(NOT_ALLOWED),
        }
        Ok(())
    }

    /// Checks that the payload is what Payload Format Indicator says (section 3.3.2.3.2).
    pub(super) fn check_payload(&self, payload: &[u8]) -> Result<(), Flaw> {
        let utf8 = self.passed_on.as_ref().and_then(|passed_on| passed_on.utf8_payload);
        if utf8 == Some(true) && std::str::from_utf8(payload).is_err() {
            return Err(Flaw::new(
                reason::PAYLOAD_FORMAT_INVALID,
                "payload is not UTF-8 as its format indicator says",
            ));
        }
        Ok(())
    }
}

/// Checks a topic name; `what` says what is wrong if it is not one.
pub(super) fn check_topic(name: &ByteString, what: &'static str) -> Result<(), Flaw> {
    if topic::is_topic_name(name) { Ok(()) } else { Err(Flaw::new(reason::TOPIC_NAME_INVALID, what)) }
}
