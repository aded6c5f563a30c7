//! The data types of the wire, written to something that counts and then to the output.

use bytes::BytesMut;

use super::TooLarge;
use crate::packet::wire::VARINT_MAX;

/// Longest fixed header.
const HEADER_BYTES_MAX: u32 = 5;

/// Where bytes go: into the output, or into a count of them.
pub(super) trait Sink {
    /// Takes the bytes.
    fn put(&mut self, bytes: &[u8]);

    /// Notes that there is something that has no form on the wire: the packet cannot be sent.
    fn refuse(&mut self);
}

/// How many bytes have been put; more than any packet holds once something was refused.
struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 = self.0.saturating_add(bytes.len());
    }

    fn refuse(&mut self) {
        self.0 = usize::MAX;
    }
}

impl Sink for BytesMut {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn refuse(&mut self) {
        debug_assert!(false, "a packet that counting refused is not written");
    }
}

impl dyn Sink + '_ {
    /// One byte.
    pub(super) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Two Byte Integer.
    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    /// Four Byte Integer.
    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    /// Variable Byte Integer.
    pub(super) fn varint(&mut self, value: u32) {
        if value > VARINT_MAX {
            return self.refuse();
        }
        let mut rest = value;
        while rest >= 0x80 {
            self.u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.u8(rest as u8);
    }

    /// Binary Data, or a UTF-8 Encoded String.
    pub(super) fn binary(&mut self, bytes: &[u8]) {
        let Ok(length) = u16::try_from(bytes.len()) else {
            return self.refuse();
        };
        self.u16(length);
        self.put(bytes);
    }

    /// A part with its length before it, such as a property block.
    pub(super) fn block(&mut self, write: impl Fn(&mut dyn Sink)) {
        match u32::try_from(count(&write)) {
            Ok(bytes) => self.varint(bytes),
            Err(_) => self.refuse(),
        }
        write(self);
    }
}

/// The place of one packet at the end of the output.
pub(super) struct Frame<'a> {
    bytes_max: u32,
    output: &'a mut BytesMut,
}

impl<'a> Frame<'a> {
    /// A packet of at most `bytes_max` bytes, if there is a maximum, is to be appended to `output`.
    pub(super) fn new(bytes_max: Option<u32>, output: &'a mut BytesMut) -> Self {
        let longest = VARINT_MAX + HEADER_BYTES_MAX;
        Self { bytes_max: bytes_max.unwrap_or(longest).min(longest), output }
    }

    /// Appends the packet with this first byte and the body that `body` writes, which is called
    /// once to count and once to write.
    pub(super) fn write(&mut self, first_byte: u8, body: impl Fn(&mut dyn Sink)) -> Result<(), TooLarge> {
        let too_large = TooLarge { bytes_max: self.bytes_max };
        let bytes = u32::try_from(count(&body)).ok().filter(|&bytes| bytes <= VARINT_MAX).ok_or(too_large)?;
        let header: &dyn Fn(&mut dyn Sink) = &|sink| {
            sink.u8(first_byte);
            sink.varint(bytes);
        };
        let packet_bytes = count(header) + bytes as usize;
        if packet_bytes > self.bytes_max as usize {
            return Err(too_large);
        }
        self.output.reserve(packet_bytes);
        header(self.output);
        body(self.output);
        Ok(())
    }
}

fn count(write: impl Fn(&mut dyn Sink)) -> usize {
    let mut count = Count(0);
    write(&mut count);
    count.0
}
