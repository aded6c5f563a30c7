//! What is wrong with a packet, before it is known in which packet: the error of the inner files.
//!
//! A packet that cannot be parsed is malformed (0x81). One that can, but says what it may not, is
//! a protocol error (0x82), unless there is a code for just that (MQTT 5, sections 1.2 and 4.13).

use super::DecodeError;
use crate::packet::types::reason;

/// A reason code and what is wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flaw {
    reason_code: u8,
    what: &'static str,
}

impl Flaw {
    /// A flaw with a reason code of its own.
    pub(super) const fn new(reason_code: u8, what: &'static str) -> Self {
        Self { reason_code, what }
    }

    /// A malformed packet.
    pub(super) const fn malformed(what: &'static str) -> Self {
        Self::new(reason::MALFORMED_PACKET, what)
    }

    /// A protocol error.
    pub(super) const fn protocol(what: &'static str) -> Self {
        Self::new(reason::PROTOCOL_ERROR, what)
    }

    /// The error to report, once the packet is known.
    pub(super) fn within(self, packet: &'static str) -> DecodeError {
        DecodeError { reason_code: self.reason_code, packet, what: self.what }
    }
}
