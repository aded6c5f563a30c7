//! Reads what the broker says. Whatever is not exactly as the standard has it panics.

use bytes::BytesMut;

use super::bytes::V5;

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Packet {
    Connack(Connack),
    Publish(Received),
    /// Packet id and reason code; 0 where there is none.
    Puback(u16, u8),
    Pubrec(u16, u8),
    Pubrel(u16, u8),
    Pubcomp(u16, u8),
    Suback(u16, Vec<u8>),
    Unsuback(u16, Vec<u8>),
    Pingresp,
    Disconnect(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Connack {
    pub present: bool,
    pub code: u8,
    pub properties: Properties,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    pub properties: Properties,
}

impl Received {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a text")
    }
}

/// Properties in the order received: identifier and the bytes of the value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub Vec<(u8, Vec<u8>)>);

impl Properties {
    /// The value of the one property with this identifier.
    pub(crate) fn get(&self, id: u8) -> Option<&[u8]> {
        let mut found = self.0.iter().filter(|(known, _)| *known == id);
        let value = found.next().map(|(_, value)| &value[..]);
        assert!(found.next().is_none(), "property {id:#x} comes twice");
        value
    }

    /// The number in the one property with this identifier.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        self.get(id).map(|value| value.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// All values of properties with this identifier.
    pub(crate) fn all(&self, id: u8) -> Vec<&[u8]> {
        self.0.iter().filter(|(known, _)| *known == id).map(|(_, value)| &value[..]).collect()
    }
}

/// Takes a whole packet off the front of the input, if there is one.
pub(crate) fn take(version: u8, input: &mut BytesMut) -> Option<Packet> {
    let mut length = 0;
    for at in 1..5 {
        let byte = *input.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte < 0x80 {
            if input.len() < at + 1 + length {
                return None;
            }
            let packet = input.split_to(at + 1 + length);
            return Some(parse(version, packet[0], Body(&packet[at + 1..])));
        }
    }
    panic!("remaining length of more than four bytes: {:02x?}", &input[..5]);
}

fn parse(version: u8, first: u8, mut body: Body<'_>) -> Packet {
    let (v5, flags) = (version == V5, first & 0x0f);
    let expected = match first >> 4 {
        3 => flags,
        6 => 2,
        _ => 0,
    };
    assert_eq!(flags, expected, "flags of {first:#x}");
    let packet = match first >> 4 {
        2 => {
            let present = body.u8();
            assert!(present <= 1, "connect acknowledge flags {present:#x}");
            let code = body.u8();
            Packet::Connack(Connack { present: present == 1, code, properties: body.properties(v5) })
        }
        3 => {
            let topic = body.text();
            let qos = flags >> 1 & 3;
            assert!(qos < 3, "QoS 3");
            let id = if qos > 0 { body.u16() } else { 0 };
            let properties = body.properties(v5);
            let (dup, retain) = (flags & 8 != 0, flags & 1 != 0);
            assert!(!(dup && qos == 0), "DUP at QoS 0");
            assert!(qos == 0 || id != 0, "packet id 0");
            Packet::Publish(Received {
                topic,
                payload: body.rest().to_vec(),
                qos,
                id,
                dup,
                retain,
                properties,
            })
        }
        kind @ 4..=7 => {
            let id = body.u16();
            let code = if body.0.is_empty() { 0 } else { body.u8() };
            assert!(v5 || code == 0, "a reason code on 3.1.1");
            if !body.0.is_empty() {
                body.properties(v5);
            }
            [Packet::Puback, Packet::Pubrec, Packet::Pubrel, Packet::Pubcomp][usize::from(kind - 4)](id, code)
        }
        kind @ (9 | 11) => {
            let id = body.u16();
            body.properties(v5);
            let codes = body.rest().to_vec();
            if kind == 9 { Packet::Suback(id, codes) } else { Packet::Unsuback(id, codes) }
        }
        13 => Packet::Pingresp,
        14 => {
            assert!(v5, "DISCONNECT to a client of 3.1.1");
            let code = if body.0.is_empty() { 0 } else { body.u8() };
            if !body.0.is_empty() {
                body.properties(v5);
            }
            Packet::Disconnect(code)
        }
        kind => panic!("a broker sends no packet of type {kind}"),
    };
    assert!(body.0.is_empty(), "bytes after the end of {packet:?}");
    packet
}

struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn rest(&mut self) -> &'a [u8] {
        self.bytes(self.0.len())
    }

    fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn binary(&mut self) -> &'a [u8] {
        let length = self.u16();
        self.bytes(length.into())
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.binary().to_vec()).expect("UTF-8")
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
        }
        panic!("variable byte integer of more than four bytes");
    }

    fn properties(&mut self, v5: bool) -> Properties {
        if !v5 {
            return Properties::default();
        }
        let length = self.varint();
        let mut block = Body(self.bytes(length));
        let mut found = Vec::new();
        while !block.0.is_empty() {
            let id = block.u8();
            let value = match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => block.bytes(1).to_vec(),
                0x13 | 0x21 | 0x22 | 0x23 => block.bytes(2).to_vec(),
                0x02 | 0x11 | 0x18 | 0x27 => block.bytes(4).to_vec(),
                0x0b => (block.varint() as u32).to_be_bytes().to_vec(),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => block.binary().to_vec(),
                0x26 => [block.binary(), b"=", block.binary()].concat(),
                other => panic!("property {other:#x} does not exist"),
            };
            found.push((id, value));
        }
        Properties(found)
    }
}
