//! MQTT packets by hand, for both versions: just enough to drive a broker hard or to misbehave.
//!
//! Independent of the broker's codec on purpose. Encoding takes what it is given, valid or not;
//! decoding expects a broker that is right and says what it did not understand.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use latchline_shared::message::{Protocol, Qos};

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK
    ConnAck {
        /// Session Present.
        session_present: bool,
        /// Return code or reason code.
        code: u8,
    },
    /// PUBLISH
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP
    Ack {
        /// Which of them.
        kind: Ack,
        /// Packet id.
        id: u16,
        /// Reason code; 0 when there is none on the wire.
        code: u8,
    },
    /// SUBACK or UNSUBACK with its codes (none in an UNSUBACK of 3.1.1)
    Granted {
        /// Packet id.
        id: u16,
        /// One per filter.
        codes: Vec<u8>,
    },
    /// PINGRESP
    PingResp,
    /// DISCONNECT (MQTT 5)
    Disconnect {
        /// Reason code.
        code: u8,
    },
}

/// A PUBLISH in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// DUP flag.
    pub dup: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// Packet id; 0 at QoS 0.
    pub id: u16,
}

/// The four packets that are an id and, in MQTT 5, a reason. The value is the packet type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// PUBACK
    PubAck = 4,
    /// PUBREC
    PubRec = 5,
    /// PUBREL
    PubRel = 6,
    /// PUBCOMP
    PubComp = 7,
}

/// A CONNECT.
#[derive(Debug, Clone)]
pub struct Connect<'a> {
    /// Protocol version.
    pub protocol: Protocol,
    /// Client id.
    pub client_id: &'a str,
    /// User name and password.
    pub login: Option<(&'a str, &'a str)>,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Session Expiry Interval (MQTT 5), sent if not 0.
    pub session_expiry_s: u32,
    /// Keep Alive.
    pub keep_alive_s: u16,
}

/// Encodes CONNECT.
pub fn connect(connect: &Connect<'_>) -> Bytes {
    let mut body = BytesMut::new();
    put_text(&mut body, "MQTT");
    body.put_u8(connect.protocol as u8);
    let login = if connect.login.is_some() { 0xc0 } else { 0 };
    body.put_u8(login | u8::from(connect.clean) << 1);
    body.put_u16(connect.keep_alive_s);
    if connect.protocol == Protocol::V5 {
        if connect.session_expiry_s > 0 {
            body.put_slice(&[5, 0x11]);
            body.put_u32(connect.session_expiry_s);
        } else {
            body.put_u8(0);
        }
    }
    put_text(&mut body, connect.client_id);
    if let Some((username, password)) = connect.login {
        put_text(&mut body, username);
        put_text(&mut body, password);
    }
    packet(0x10, &body)
}

/// Encodes PUBLISH.
pub fn publish(protocol: Protocol, publish: &Publish) -> Bytes {
    let mut buffer = BytesMut::with_capacity(publish.topic.len() + publish.payload.len() + 10);
    let Publish { topic, payload, qos, dup, retain, id } = publish;
    let flags = u8::from(*dup) << 3 | u8::from(*retain);
    put_publish(&mut buffer, protocol, (topic, payload), *qos, flags, *id);
    buffer.freeze()
}

/// Adds a PUBLISH of a topic and a payload, whose `flags` are DUP and RETAIN, to `buffer`.
pub fn put_publish(
    buffer: &mut BytesMut,
    protocol: Protocol,
    (topic, payload): (&str, &[u8]),
    qos: Qos,
    flags: u8,
    id: u16,
) {
    let id_bytes = if qos > Qos::AtMostOnce { 2 } else { 0 };
    let properties_bytes = if protocol == Protocol::V5 { 1 } else { 0 };
    buffer.put_u8(0x30 | flags | qos.level() << 1);
    put_length(buffer, 2 + topic.len() + id_bytes + properties_bytes + payload.len());
    put_text(buffer, topic);
    if id_bytes > 0 {
        buffer.put_u16(id);
    }
    put_no_properties(buffer, protocol);
    buffer.put_slice(payload);
}

/// Encodes SUBSCRIBE.
pub fn subscribe(protocol: Protocol, id: u16, filters: &[(&str, Qos)]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u16(id);
    put_no_properties(&mut body, protocol);
    for (filter, qos) in filters {
        put_text(&mut body, filter);
        body.put_u8(qos.level());
    }
    packet(0x82, &body)
}

/// Encodes UNSUBSCRIBE.
pub fn unsubscribe(protocol: Protocol, id: u16, filter: &str) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u16(id);
    put_no_properties(&mut body, protocol);
    put_text(&mut body, filter);
    packet(0xa2, &body)
}

/// Encodes PUBACK, PUBREC, PUBREL or PUBCOMP with success.
pub fn ack(kind: Ack, id: u16) -> Bytes {
    let flags = if kind == Ack::PubRel { 2 } else { 0 };
    packet((kind as u8) << 4 | flags, &id.to_be_bytes())
}

/// PINGREQ
pub const PING_REQUEST: Bytes = Bytes::from_static(&[0xc0, 0]);
/// DISCONNECT in its short form, which is the same in both versions.
pub const DISCONNECT: Bytes = Bytes::from_static(&[0xe0, 0]);

/// Takes one whole packet off the buffer, if there is one.
pub fn decode(protocol: Protocol, buffer: &mut BytesMut) -> anyhow::Result<Option<Packet>> {
    let Some((length, header)) = frame(buffer)? else {
        return Ok(None);
    };
    let first = buffer[0];
    let mut body = buffer.split_to(header + length).freeze();
    body.advance(header);
    read(protocol, first, body).with_context(|| format!("packet {first:#04x} of {length} bytes")).map(Some)
}

/// Length of the body and of the header, once all of both is there.
fn frame(buffer: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut length = 0;
    for at in 1..=4 {
        let Some(&byte) = buffer.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte < 0x80 {
            return Ok((buffer.len() > at + length).then_some((length, at + 1)));
        }
    }
    bail!("remaining length of more than four bytes")
}

fn read(protocol: Protocol, first: u8, mut body: Bytes) -> anyhow::Result<Packet> {
    let v5 = protocol == Protocol::V5;
    Ok(match first >> 4 {
        2 => Packet::ConnAck { session_present: body.try_get_u8()? & 1 == 1, code: body.try_get_u8()? },
        3 => {
            let topic = take_text(&mut body)?;
            let qos = Qos::from_level(first >> 1 & 3).context("QoS 3")?;
            let id = if qos > Qos::AtMostOnce { body.try_get_u16()? } else { 0 };
            if v5 {
                skip_properties(&mut body)?;
            }
            let (dup, retain) = (first & 8 != 0, first & 1 != 0);
            Packet::Publish(Publish { topic, payload: body, qos, dup, retain, id })
        }
        kind @ 4..=7 => {
            let kind = [Ack::PubAck, Ack::PubRec, Ack::PubRel, Ack::PubComp][usize::from(kind - 4)];
            let id = body.try_get_u16()?;
            Packet::Ack { kind, id, code: if body.has_remaining() { body.get_u8() } else { 0 } }
        }
        9 | 11 => {
            let id = body.try_get_u16()?;
            if v5 {
                skip_properties(&mut body)?;
            }
            Packet::Granted { id, codes: body.to_vec() }
        }
        13 => Packet::PingResp,
        14 => Packet::Disconnect { code: if body.has_remaining() { body.get_u8() } else { 0 } },
        kind => bail!("a broker sends no packet of type {kind}"),
    })
}

fn packet(first: u8, body: &[u8]) -> Bytes {
    let mut packet = BytesMut::with_capacity(body.len() + 5);
    packet.put_u8(first);
    put_length(&mut packet, body.len());
    packet.put_slice(body);
    packet.freeze()
}

fn put_length(buffer: &mut BytesMut, mut length: usize) {
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return buffer.put_u8(low);
        }
        buffer.put_u8(low | 0x80);
    }
}

fn put_text(buffer: &mut BytesMut, text: &str) {
    // A longer text is cut on the wire, and the broker sees a malformed packet: as asked for.
    buffer.put_u16(text.len() as u16);
    buffer.put_slice(text.as_bytes());
}

fn put_no_properties(buffer: &mut BytesMut, protocol: Protocol) {
    if protocol == Protocol::V5 {
        buffer.put_u8(0);
    }
}

fn take_text(body: &mut Bytes) -> anyhow::Result<String> {
    let length = usize::from(body.try_get_u16()?);
    ensure!(body.len() >= length, "a string is cut short");
    Ok(String::from_utf8(body.split_to(length).to_vec())?)
}

fn skip_properties(body: &mut Bytes) -> anyhow::Result<()> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = body.try_get_u8()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    ensure!(body.len() >= length, "properties are cut short");
    body.advance(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: Protocol, bytes: &[u8], expected: Packet) {
        let mut buffer = BytesMut::from(bytes);
        for cut in 0..bytes.len() {
            let mut partial = BytesMut::from(&bytes[..cut]);
            assert_eq!(decode(protocol, &mut partial).unwrap(), None, "{cut} of {bytes:?}");
        }
        assert_eq!(decode(protocol, &mut buffer).unwrap(), Some(expected));
        assert!(buffer.is_empty());
    }

    fn message(qos: Qos, id: u16) -> Publish {
        let (topic, payload) = ("a/b".to_owned(), Bytes::from_static(b"xyz"));
        Publish { topic, payload, qos, dup: false, retain: false, id }
    }

    #[test]
    fn packets_are_what_the_specification_spells() {
        let hello = Connect {
            protocol: Protocol::V3,
            client_id: "c",
            login: Some(("u", "p")),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: 60,
        };
        assert_eq!(&connect(&hello)[..], b"\x10\x13\0\x04MQTT\x04\xc2\0\x3c\0\x01c\0\x01u\0\x01p");
        let hello =
            Connect { protocol: Protocol::V5, login: None, session_expiry_s: 7, clean: false, ..hello };
        assert_eq!(&connect(&hello)[..], b"\x10\x13\0\x04MQTT\x05\0\0\x3c\x05\x11\0\0\0\x07\0\x01c");
        assert_eq!(&subscribe(Protocol::V3, 1, &[("a", Qos::AtLeastOnce)])[..], b"\x82\x06\0\x01\0\x01a\x01");
        assert_eq!(&ack(Ack::PubRel, 258)[..], b"\x62\x02\x01\x02");
    }

    #[test]
    fn publishes_are_read_as_they_were_written() {
        for protocol in [Protocol::V3, Protocol::V5] {
            for message in [message(Qos::AtMostOnce, 0), message(Qos::AtLeastOnce, 7)] {
                check(protocol, &publish(protocol, &message), Packet::Publish(message));
            }
        }
        let long = Publish { payload: vec![1; 20_000].into(), ..message(Qos::AtLeastOnce, 1) };
        let mut buffer = BytesMut::from(&publish(Protocol::V3, &long)[..]);
        assert_eq!(decode(Protocol::V3, &mut buffer).unwrap(), Some(Packet::Publish(long)));
    }

    #[test]
    fn answers_are_read() {
        let puback = |code| Packet::Ack { kind: Ack::PubAck, id: 258, code };
        check(Protocol::V3, b"\x20\x02\x01\x00", Packet::ConnAck { session_present: true, code: 0 });
        check(Protocol::V5, b"\x20\x03\x00\x87\x00", Packet::ConnAck { session_present: false, code: 0x87 });
        check(Protocol::V3, b"\x40\x02\x01\x02", puback(0));
        check(Protocol::V5, b"\x40\x04\x01\x02\x97\x00", puback(0x97));
        check(Protocol::V5, b"\x90\x05\x00\x01\x00\x01\x87", Packet::Granted { id: 1, codes: vec![1, 0x87] });
        check(Protocol::V3, b"\xd0\x00", Packet::PingResp);
        check(Protocol::V5, b"\xe0\x02\x8e\x00", Packet::Disconnect { code: 0x8e });
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in
            [&b"\xf0\x00"[..], b"\x36\x05\x00\x01a\x00\x01", b"\x30\x02\x00\x05", b"\x40\xff\xff\xff\xff\x01"]
        {
            assert!(decode(Protocol::V3, &mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
