//! Why a connection ends, and what the client is told.

use std::borrow::Cow;

use crate::packet::decode::DecodeError;
use crate::packet::types::reason;

/// The end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// The word in the `client.disconnected` record and the log.
    pub reason: &'static str,
    /// MQTT 5 reason code and reason string for a DISCONNECT, if the client is told.
    pub tell: Option<(u8, Option<&'static str>)>,
    /// What is to become of the will.
    pub will: WillFate,
    /// More for the log.
    pub detail: Cow<'static, str>,
}

/// What is to become of the will at the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WillFate {
    /// It is published, after its delay.
    Publish,
    /// It is discarded: the client said goodbye.
    Discard,
}

impl End {
    /// The client said goodbye.
    pub(super) fn normal() -> Self {
        Self { reason: "normal", tell: None, will: WillFate::Discard, detail: Cow::Borrowed("") }
    }

    /// The client said goodbye and wants its will published.
    pub(super) fn with_will() -> Self {
        Self { will: WillFate::Publish, ..Self::normal() }
    }

    /// The stream is at its end without a DISCONNECT.
    pub(super) fn closed() -> Self {
        Self { reason: "tcp_closed", will: WillFate::Publish, ..Self::normal() }
    }

    /// The stream failed.
    pub(super) fn io(error: &std::io::Error) -> Self {
        Self {
            reason: "io_error",
            will: WillFate::Publish,
            detail: error.to_string().into(),
            ..Self::normal()
        }
    }

    /// The server ends it and says why.
    pub(super) fn told(reason: &'static str, code: u8, text: &'static str) -> Self {
        Self { reason, tell: Some((code, Some(text))), will: WillFate::Publish, detail: Cow::Borrowed(text) }
    }

    /// The client broke the protocol.
    pub(super) fn protocol_error(text: &'static str) -> Self {
        Self::told("protocol_error", reason::PROTOCOL_ERROR, text)
    }
}

impl From<DecodeError> for End {
    fn from(error: DecodeError) -> Self {
        let reason = if error.reason_code == reason::PACKET_TOO_LARGE {
            "packet_too_large"
        } else {
            "malformed_packet"
        };
        Self { detail: error.to_string().into(), ..Self::told(reason, error.reason_code, "malformed packet") }
    }
}
