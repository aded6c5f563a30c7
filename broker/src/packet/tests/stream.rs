//! Properties of a stream of any bytes: no panic, nothing taken beyond a packet, and the same
//! result however the bytes are cut into reads. And whose memory is used for it.

use bytes::BytesMut;
use latchline_shared::message::Protocol;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{Index, select};

use super::{VERSIONS, connected, corpus, decode, packet, text};
use crate::packet::decode::{DecodeError, Decoder};
use crate::packet::types::Incoming;

/// Small, so that corpus and chance both meet it.
const PACKET_BYTES_MAX: u32 = 10_000;

/// All packets up to the first error, and what is left without one.
type Outcome = (Vec<Incoming>, Result<BytesMut, DecodeError>);

fn run<'a>(reads: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let (mut decoder, mut input, mut packets) = (Decoder::new(PACKET_BYTES_MAX), BytesMut::new(), Vec::new());
    for read in reads {
        input.extend_from_slice(read);
        loop {
            match decoder.next(&mut input) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Err(error)),
            }
        }
    }
    (packets, Ok(input))
}

/// Streams that are mostly right, with now and then some bytes that are anything.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    select(VERSIONS.to_vec()).prop_flat_map(|protocol: Protocol| {
        let connect = prop_oneof![
            9 => select(corpus::connects(protocol)),
            1 => Just(Vec::new()),
        ];
        let piece = prop_oneof![
            8 => select(corpus::packets(protocol)),
            1 => vec(any::<u8>(), 0..20),
            1 => (select(corpus::packets(protocol)), any::<Index>(), any::<u8>()).prop_map(
                |(mut bytes, index, byte)| {
                    let place = index.index(bytes.len());
                    bytes[place] = byte;
                    bytes
                }
            ),
        ];
        (connect, vec(piece, 0..8)).prop_map(|(connect, pieces)| [connect, pieces.concat()].concat())
    })
}

proptest! {
    #[test]
    fn any_bytes_have_an_outcome(bytes in vec(any::<u8>(), 0..300)) {
        let mut decoders = Vec::from(VERSIONS.map(connected));
        decoders.push(Decoder::new(PACKET_BYTES_MAX));
        for mut decoder in decoders {
            let (result, rest) = decode(&mut decoder, &bytes);
            prop_assert!(bytes.ends_with(&rest));
            if result == Ok(None) {
                prop_assert_eq!(&rest[..], &bytes[..]);
            }
        }
    }

    #[test]
    fn cuts_change_nothing(stream in streams(), cuts in vec(any::<Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut start = 0;
        let reads: Vec<&[u8]> = cuts.iter().map(|&end| &stream[std::mem::replace(&mut start, end)..end]).collect();
        prop_assert_eq!(run(reads), run([&stream[..]]));
    }

    #[test]
    fn what_follows_is_left_alone(stream in streams(), tail in vec(any::<u8>(), 0..20)) {
        let mut decoder = Decoder::new(PACKET_BYTES_MAX);
        let mut alone = BytesMut::from(&stream[..]);
        if let Ok(Some(packet)) = decoder.next(&mut alone) {
            let mut followed = BytesMut::from(&[&stream[..], &tail].concat()[..]);
            prop_assert_eq!(Decoder::new(PACKET_BYTES_MAX).next(&mut followed), Ok(Some(packet)));
            prop_assert_eq!(&followed[..], &[&alone[..], &tail].concat()[..]);
        }
    }

    #[test]
    fn packets_come_out_as_they_went_in(protocol in select(VERSIONS.to_vec()), picks in vec(any::<Index>(), 0..10)) {
        let packets: Vec<Vec<u8>> =
            corpus::packets(protocol).into_iter().filter(|packet| packet.len() < PACKET_BYTES_MAX as usize).collect();
        let picked: Vec<&Vec<u8>> = picks.iter().map(|pick| pick.get(&packets)).collect();
        let connect = &corpus::connects(protocol)[1];
        let (incoming, rest) = run(std::iter::once(connect).chain(picked.iter().copied()).map(|bytes| &bytes[..]));
        let expected: Vec<Incoming> = picked
            .iter()
            .map(|bytes| decode(&mut connected(protocol), bytes).0.unwrap().unwrap())
            .collect();
        prop_assert_eq!(&incoming[1..], &expected[..]);
        prop_assert_eq!(rest, Ok(BytesMut::new()));
    }
}

/// Every cut of every packet, and byte by byte: the exhaustive complement.
#[test]
fn every_cut_of_every_packet() {
    for protocol in VERSIONS {
        let connect = corpus::connects(protocol).remove(3);
        for packet in corpus::packets(protocol).iter().filter(|packet| packet.len() < 200) {
            let stream = [&connect[..], packet].concat();
            let whole = run([&stream[..]]);
            assert_eq!(whole.0.len(), 2, "{protocol:?} {packet:x?}");
            for cut in 0..=stream.len() {
                assert_eq!(run([&stream[..cut], &stream[cut..]]), whole, "{protocol:?} {packet:x?} at {cut}");
            }
            assert_eq!(run(stream.chunks(1)), whole, "{protocol:?} {packet:x?} byte by byte");
        }
    }
}

#[test]
fn strings_and_payloads_are_slices_of_the_input() {
    let mut input = BytesMut::from(&packet(0x30, &[&text("a/b"), &[0], b"payload"])[..]);
    let range = input.as_ptr_range();
    let Ok(Some(Incoming::Publish(publish))) = connected(Protocol::V5).next(&mut input) else {
        panic!("not a PUBLISH");
    };
    assert!(range.contains(&publish.topic.as_ptr()));
    assert!(range.contains(&publish.payload.as_ptr()));
}

#[test]
fn a_drained_input_owns_no_memory() {
    let pings = [0xc0, 0, 0xc0, 0];
    let mut input = BytesMut::with_capacity(4096);
    input.extend_from_slice(&pings);
    let mut decoder = connected(Protocol::V5);
    assert!(matches!(decoder.next(&mut input), Ok(Some(Incoming::Pingreq))));
    assert_eq!(&input[..], &pings[2..]);
    assert!(matches!(decoder.next(&mut input), Ok(Some(Incoming::Pingreq))));
    assert_eq!(decoder.next(&mut input), Ok(None));
    assert_eq!(input.capacity(), 0);
    assert!(size_of::<Decoder>() <= 16);
}
