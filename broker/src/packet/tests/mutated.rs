//! Valid packets, damaged at random: the decoder does not panic, and what it still accepts it
//! understands as the judge does.

use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::BytesMut;
use latchline_shared::message::Protocol;

use super::{PACKET_BYTES_MAX, VERSIONS, connected, corpus, oracle, varint};
use crate::packet::decode::Decoder;

const ROUNDS: usize = 40_000;

/// SplitMix64: short, and the same on every machine for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        // Half of them values that mean something somewhere.
        const TELLING: [u8; 12] = [0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xff, b'#', b'+', b'/', b'$'];
        if self.below(2) == 0 { TELLING[self.below(TELLING.len())] } else { self.next() as u8 }
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let place = self.below(bytes.len());
        match self.below(6) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[place] = self.byte(),
            2 => bytes.insert(place, self.byte()),
            3 if !bytes.is_empty() => drop(bytes.remove(place)),
            4 => bytes.truncate(place),
            _ => {
                let end = place + self.below(bytes.len() - place);
                let copy = bytes[place..end].to_vec();
                bytes.splice(place..place, copy);
            }
        }
    }
}

/// The seed of `LATCHLINE_SEED`, or a new one.
#[expect(clippy::disallowed_macros, reason = "the seed is shown if the test fails")]
fn seed() -> u64 {
    let given = std::env::var("LATCHLINE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("LATCHLINE_SEED={seed}");
    seed
}

#[test]
fn damaged_packets_mean_the_same_to_both() {
    let mut random = Random(seed());
    let mut accepted = 0;
    for protocol in VERSIONS {
        let connects: Vec<_> = corpus::connects(protocol).into_iter().map(|packet| (true, packet)).collect();
        let packets = corpus::packets(protocol).into_iter().map(|packet| (false, packet));
        let corpus: Vec<_> =
            connects.into_iter().chain(packets.filter(|(_, packet)| packet.len() < 200)).collect();
        for _ in 0..ROUNDS {
            let (first, packet) = &corpus[random.below(corpus.len())];
            let mut damaged = packet.clone();
            if random.below(4) == 0 {
                random.damage(&mut damaged);
            } else {
                // Damage the body only and mend its length, to come further than the header.
                let mut body = damaged.split_off(2);
                (0..=random.below(3)).for_each(|_| random.damage(&mut body));
                damaged.truncate(1);
                damaged.extend(varint(body.len()));
                damaged.extend(body);
            }
            let decoder = if *first { Decoder::new(PACKET_BYTES_MAX) } else { connected(protocol) };
            accepted += usize::from(agrees(decoder, &damaged));
        }
    }
    assert!(accepted > ROUNDS / 20, "only {accepted} damaged packets were accepted: the damage is too great");
}

/// Whether the packet is accepted; panics if the judge disagrees on what it means.
fn agrees(mut decoder: Decoder, bytes: &[u8]) -> bool {
    let mut input = BytesMut::from(bytes);
    let Ok(Some(incoming)) = decoder.next(&mut input) else {
        return false;
    };
    let packet = &bytes[..bytes.len() - input.len()];
    let protocol: Protocol = decoder.protocol().unwrap();
    match oracle::parse(packet, protocol) {
        Ok(judged) => assert_eq!(oracle::blurred(incoming), judged, "{packet:x?}"),
        Err(error) => assert!(oracle::excuses(&incoming), "judge refuses {packet:x?}: {error}"),
    }
    true
}
