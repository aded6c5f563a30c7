//! The data types of the wire (MQTT 5, section 1.5), read off the front of a packet's body.

use std::num::NonZeroU16;

use bytes::{Buf, Bytes};
use bytestring::ByteString;

use super::flaw::Flaw;

const ENDS: Flaw = Flaw::malformed("packet ends within a field");

/// What is left of a body, or of a part of one.
#[derive(Debug)]
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `body` from its start.
    pub(super) fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    /// Whether everything has been read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that everything has been read.
    pub(super) fn end(&self) -> Result<(), Flaw> {
        if self.is_empty() { Ok(()) } else { Err(Flaw::malformed("bytes after the end of the packet")) }
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, Flaw> {
        self.rest.try_get_u8().map_err(|_| ENDS)
    }

    /// Two Byte Integer.
    pub(super) fn u16(&mut self) -> Result<u16, Flaw> {
        self.rest.try_get_u16().map_err(|_| ENDS)
    }

    /// Four Byte Integer.
    pub(super) fn u32(&mut self) -> Result<u32, Flaw> {
        self.rest.try_get_u32().map_err(|_| ENDS)
    }

    /// Variable Byte Integer, in its shortest form.
    pub(super) fn varint(&mut self) -> Result<u32, Flaw> {
        let mut value = 0;
        for index in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte == 0 && index > 0 {
                return Err(Flaw::malformed("variable byte integer is not in its shortest form"));
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Flaw::malformed("variable byte integer is longer than 4 bytes"))
    }

    /// A byte that is 0 or 1.
    pub(super) fn bool(&mut self) -> Result<bool, Flaw> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Flaw::protocol("property is neither 0 nor 1")),
        }
    }

    /// Packet Identifier.
    pub(super) fn packet_id(&mut self) -> Result<NonZeroU16, Flaw> {
        NonZeroU16::new(self.u16()?).ok_or(Flaw::protocol("packet id is 0"))
    }

    /// Binary Data.
    pub(super) fn binary(&mut self) -> Result<Bytes, Flaw> {
        let bytes = self.u16()?;
        self.take(usize::from(bytes))
    }

    /// UTF-8 Encoded String. U+0000 may not be in one (section 1.5.4).
    pub(super) fn text(&mut self) -> Result<ByteString, Flaw> {
        let text =
            ByteString::try_from(self.binary()?).map_err(|_| Flaw::malformed("string is not UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(Flaw::malformed("U+0000 in a string"));
        }
        Ok(text)
    }

    /// The next `bytes` as a reader of their own.
    pub(super) fn part(&mut self, bytes: usize) -> Result<Self, Flaw> {
        self.take(bytes).map(Self::new)
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, Flaw> {
        if bytes <= self.rest.len() { Ok(self.rest.split_to(bytes)) } else { Err(ENDS) }
    }
}
