//! Valid packets of every kind, to be cut, mutated and compared.

use latchline_shared::message::Protocol;

use super::{block, connect, packet, text};

const MESSAGE: &[u8] =
    b"\x01\x01\x02\0\0\0\x09\x03\0\x04text\x08\0\x03r/s\x09\0\x02\0\xff\x26\0\x01a\0\x01b\x26\0\x01a\0\0";

/// CONNECTs, from the shortest to one with everything.
pub(super) fn connects(protocol: Protocol) -> Vec<Vec<u8>> {
    let properties =
        b"\x11\0\0\x02\0\x21\0\x05\x27\0\x01\0\0\x22\0\x07\x17\0\x19\x01\x15\0\x02GS\x16\0\x01x\x26\0\x01k\0\x01v";
    let will =
        [&block(protocol, &[MESSAGE, b"\x18\0\0\0\x05"].concat())[..], &text("a/b"), &text("gone")].concat();
    vec![
        connect(protocol, 0b0000_0010, &[], &[&text("")]),
        connect(protocol, 0b0000_0000, &[], &[&text("10083618796833171")]),
        connect(protocol, 0b1100_0010, &[], &[&text("lock"), &text("user"), &text("pass")]),
        connect(protocol, 0b1110_1110, properties, &[&text("lock"), &will, &text("user"), &text("pass")]),
    ]
}

/// Packets that may follow CONNECT.
pub(super) fn packets(protocol: Protocol) -> Vec<Vec<u8>> {
    let none = block(protocol, &[]);
    let state = b"{   \"process_id\": \"7802441525528958\",   \"action\": \"unlock\",   \"battery\": 83.4 }";
    let mut packets = vec![
        packet(0x30, &[&text("a"), &none]),
        packet(0x32, &[&text("devices/10083618796833171/state"), &[0, 1], &none, state]),
        packet(0x3d, &[&text("a/b"), &[0xff, 0xff], &block(protocol, MESSAGE), "été".as_bytes()]),
        packet(0x31, &[&text("a"), &none, &[b'x'; 20_000]]),
        packet(0x82, &[&[0, 2], &none, &text("devices/10083618796833171/command"), &[1]]),
        packet(
            0x82,
            &[&[0, 3], &block(protocol, b"\x0b\x81\x01\x26\0\0\0\0"), &text("+"), &[0], &text("a/#"), &[2]],
        ),
        packet(0xa2, &[&[0, 4], &none, &text("$share/g/a/+"), &text("b")]),
        packet(0xc0, &[]),
        packet(0xe0, &[]),
    ];
    packets.extend([0x40, 0x50, 0x62, 0x70].map(|first_byte| packet(first_byte, &[&[1, 2]])));
    if protocol == Protocol::V5 {
        packets.push(packet(0x30, &[&text(""), b"\x03\x23\0\x01", b"aliased"]));
        packets.push(packet(0x82, &[&[0, 5, 0], &text("a"), &[0x2d]]));
        packets.push(packet(0xe0, &[b"\x04\x0e\x11\0\0\0\x01\x1f\0\x01x\x26\0\0\0\0"]));
        packets.push(packet(0xf0, &[b"\x18\x05\x15\0\x02GS"]));
        for first_byte in [0x40, 0x50] {
            packets.push(packet(first_byte, &[&[1, 2], &[0x97]]));
            packets.push(packet(first_byte, &[&[1, 2], b"\x80\x0b\x1f\0\x01x\x26\0\x01y\0\x01z"]));
        }
        packets.push(packet(0x62, &[&[1, 2], &[0x92, 0]]));
    }
    packets
}
