//! What is malformed or forbidden ends its own connection, with the right reason, and nobody
//! else's: a healthy client works throughout.

use latchline_shared::kit::testing::{Random, Seed, eventually};

use crate::app::App;
use crate::raw::bytes::{
    Connect, GOODBYE, PING, Publish, V3, V5, VERSIONS, Will, block, disconnect, packet, puback, pubcomp,
    pubrec, pubrel, subscribe, text, unsubscribe, varint,
};
use crate::raw::read::Packet;
use crate::raw::{Raw, SOON};

/// A client that publishes to itself.
struct Healthy(Raw);

impl Healthy {
    async fn new(app: &App) -> Self {
        let mut raw = app.client(V5, "healthy").await;
        raw.subscribe("healthy/+", 1).await;
        Self(raw)
    }

    async fn works(&mut self) {
        self.0.send_publish(&Publish::new("healthy/t", "x").qos(1, 1)).await;
        let mut got = [self.0.next().await, self.0.next().await];
        got.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        let [Packet::Puback(1, 0), Packet::Publish(message)] = &got else { panic!("{got:?}") };
        self.0.acknowledge(message).await;
    }
}

/// Bytes and the reason code that they are answered with on MQTT 5.
type Case = (Vec<u8>, u8);

fn in_both_versions(v: u8) -> Vec<Case> {
    let none = block(v, &[]);
    let mut cases = vec![
        // Topics and filters.
        (Publish::new("a/+", "x").bytes(v), 0x90),
        (Publish::new("#", "x").qos(1, 1).bytes(v), 0x90),
        (packet(0x30, &[&text(b"a\0b"), &none]), 0x81),
        (packet(0x30, &[&text(b"a\xff"), &none]), 0x81),
        (packet(0x30, &[&text(b"\xed\xa0\x80"), &none]), 0x81),
        (packet(0x32, &[&text(b"a\0b"), &[0, 1], &none]), 0x81),
        (subscribe(v, 1, &[], &[("a/#/b", 0)]), 0x8f),
        (subscribe(v, 1, &[], &[("a", 0), ("a+", 1)]), 0x8f),
        (subscribe(v, 1, &[], &[("", 0)]), 0x8f),
        (subscribe(v, 1, &[], &[("$share/g", 0)]), 0x8f),
        (subscribe(v, 1, &[], &[("$share/+/a", 0)]), 0x8f),
        (packet(0x82, &[&[0, 1], &none, &text(b"a\0"), &[0]]), 0x81),
        (packet(0x82, &[&[0, 1], &none, &text(b"\xc3("), &[0]]), 0x81),
        (unsubscribe(v, 1, &["a#"]), 0x8f),
        // Packet id 0.
        (Publish::new("a", "x").qos(1, 0).bytes(v), 0x82),
        (Publish::new("a", "x").qos(2, 0).bytes(v), 0x82),
        (subscribe(v, 0, &[], &[("a", 0)]), 0x82),
        (unsubscribe(v, 0, &["a"]), 0x82),
        (puback(0), 0x82),
        (pubrec(0), 0x82),
        (pubrel(0), 0x82),
        (pubcomp(0), 0x82),
        // Flags and types.
        (vec![0x36, 5, 0, 1, b'a', 0, 1], 0x81),
        (vec![0x38, 4, 0, 1, b'a', 0], 0x81),
        (vec![0x80, 0], 0x81),
        (vec![0x60, 2, 0, 1], 0x81),
        (vec![0x41, 2, 0, 1], 0x81),
        (vec![0x52, 2, 0, 1], 0x81),
        (vec![0x7f, 2, 0, 1], 0x81),
        (packet(0xa0, &[&[0, 1], &none, &text("a")]), 0x81),
        (packet(0x83, &[&[0, 1], &none, &text("a"), &[0]]), 0x81),
        (vec![0xc1, 0], 0x81),
        (vec![0xe8, 0], 0x81),
        (vec![0x00, 0], 0x81),
        (vec![0x20, 2, 0, 0], 0x82),
        (vec![0xd0, 0], 0x82),
        (vec![0x90, 3, 0, 1, 0], 0x82),
        (vec![0xb0, 3, 0, 1, 0], 0x82),
        // Lengths.
        (vec![0xc0, 1, 0], 0x81),
        (vec![0xc0, 0x80, 0], 0x81),
        (vec![0x30, 0x80, 0x80, 0x80, 0x80, 1], 0x81),
        (vec![0x30, 0xff, 0xff, 0xff, 0x7f], 0x95),
        (vec![0x30, 1, 0], 0x81),
        (vec![0x30, 3, 0, 9, b'a'], 0x81),
        (packet(0x82, &[&[0, 1], &none]), 0x82),
        (packet(0x82, &[&[0, 1], &none, &text("a")]), 0x81),
        (packet(0xa2, &[&[0, 1], &none]), 0x82),
        (vec![0x40, 1, 0], 0x81),
    ];
    if v == V3 {
        cases.extend([
            (vec![0xf0, 0], 0),
            (vec![0xe0, 1, 0], 0),
            (subscribe(v, 1, &[], &[("a", 3)]), 0),
            (subscribe(v, 1, &[], &[("a", 4)]), 0),
            (Publish::new("", "x").bytes(v), 0),
        ]);
    } else {
        cases.extend(in_version_5());
    }
    cases
}

fn in_version_5() -> Vec<Case> {
    let with = |properties: &[u8]| Publish::new("a", "x").with(properties).bytes(V5);
    vec![
        (Publish::new("", "x").bytes(V5), 0x82),
        (Publish::new("", "x").with(&[0x23, 0, 1]).bytes(V5), 0x82),
        (with(&[0x23, 0, 0]), 0x94),
        (with(&[0x23, 0, 99]), 0x94),
        (with(&[0x0b, 1]), 0x82),
        (with(&[0x01, 2]), 0x82),
        (with(&[0x01, 0, 0x01, 0]), 0x82),
        (with(&[0x02, 0, 0]), 0x81),
        (with(&[0x08, 0, 1, b'#']), 0x90),
        (with(&[0x11, 0, 0, 0, 1]), 0x81),
        (with(&[0x7f]), 0x81),
        (with(&[0x26, 0, 1, 0, 0, 0]), 0x81),
        (packet(0x30, &[&text("a"), &[1, 1, 1], b"\xff"]), 0x81),
        (packet(0x30, &[&text("a"), &[2, 1, 1], b"\xff"]), 0x99),
        (packet(0x30, &[&text("a"), &[9], b"x"]), 0x81),
        // What may be there once, twice (MQTT 5, sections 2.2.2.2 and 3.3.2.3).
        (with(&[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1]), 0x82),
        (with(&[0x03, 0, 1, b'a', 0x03, 0, 1, b'a']), 0x82),
        (with(&[0x08, 0, 1, b'a', 0x08, 0, 1, b'a']), 0x82),
        (with(&[0x09, 0, 0, 0x09, 0, 0]), 0x82),
        (with(&[0x23, 0, 1, 0x23, 0, 1]), 0x82),
        (disconnect(0x00, &[0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0]), 0x82),
        // Lengths in more bytes than they need [MQTT-1.5.5-1].
        (packet(0x30, &[&text("a"), &[0x80, 0], b"x"]), 0x81),
        (packet(0x82, &[&[0, 1], &[3, 0x0b, 0x81, 0], &text("a"), &[0]]), 0x81),
        // A session that has no time after its connection gets none at the end [MQTT-3.14.2-2].
        (disconnect(0x00, &[0x11, 0, 0, 0, 9]), 0x82),
        (subscribe(V5, 1, &[0x0b, 0], &[("a", 0)]), 0x82),
        (subscribe(V5, 1, &[0x0b, 1, 0x0b, 2], &[("a", 0)]), 0x82),
        (subscribe(V5, 1, &[], &[("a", 3)]), 0x82),
        (subscribe(V5, 1, &[], &[("a", 0x30)]), 0x82),
        (subscribe(V5, 1, &[], &[("a", 0x40)]), 0x81),
        (subscribe(V5, 1, &[], &[("$share/g/a", 4)]), 0x82),
        (packet(0x40, &[&[0, 1, 0x01]]), 0x82),
        (packet(0x62, &[&[0, 1, 0x80]]), 0x82),
        (packet(0x40, &[&[0, 1, 0, 2, 0x24, 0]]), 0x81),
        (disconnect(0x01, &[]), 0x82),
        (disconnect(0x00, &[0x1c, 0, 0]), 0x82),
        (vec![0xf0, 0], 0x82),
        (packet(0xf0, &[&[0x18], &block(V5, &[0x15, 0, 1, b'x'])]), 0x82),
    ]
}

#[tokio::test]
async fn bad_packets_end_their_connection_with_the_reason() {
    let app = App::start(|_| {}).await;
    let mut healthy = Healthy::new(&app).await;
    for version in VERSIONS {
        for (bytes, code) in in_both_versions(version) {
            let mut client = app.client(version, "client").await;
            // What came before is still answered.
            client.send(&[&PING[..], &bytes, &PING].concat()).await;
            let mut expected = vec![Packet::Pingresp];
            expected.extend((version == V5).then_some(Packet::Disconnect(code)));
            assert_eq!(client.rest().await, expected, "{version}: {bytes:02x?}");
            healthy.works().await;
        }
    }
    eventually(SOON, "they are gone", async || app.metric("broker_session_connections") == 1).await;
}

#[tokio::test]
async fn bad_connects_are_answered_where_they_can_be() {
    let app = App::start(|_| {}).await;
    let mut healthy = Healthy::new(&app).await;
    let connect = |version: u8, flags: u8, rest: &[&[u8]]| {
        let head = [&text("MQTT")[..], &[version, flags, 0, 60], &block(version, &[])].concat();
        packet(0x10, &[&head, &rest.concat()])
    };
    let v5_with = |properties: &[u8]| Connect::new(V5, "c").with(properties).bytes();
    let will = |topic: &'static str| {
        let will = Will { topic, payload: "x", qos: 0, retain: false, properties: vec![] };
        Connect { will: Some(will), ..Connect::new(V5, "c") }.bytes()
    };
    let id = text("c");
    for (version, bytes, answer) in [
        (V3, PING.to_vec(), None),
        (V3, GOODBYE.to_vec(), None),
        (V3, b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
        (V3, Publish::new("a", "x").bytes(V3), None),
        (V3, vec![0x00], None),
        (V5, vec![0x10, 0xff, 0xff, 0xff, 0x7f], None),
        (V5, vec![0x11, 0], None),
        (V3, connect(V3, 0x03, &[&id]), Some(3)),
        (V5, connect(V5, 0x03, &[&id]), Some(0x81)),
        (V5, connect(V5, 0x1e, &[&id]), Some(0x81)),
        (V5, connect(V5, 0x22, &[&id]), Some(0x81)),
        // A will's QoS without a will, and a third one [MQTT-3.1.2-11, 3.1.2-12].
        (V5, connect(V5, 0x0a, &[&id]), Some(0x81)),
        (V3, connect(V3, 0x0a, &[&id]), Some(3)),
        (V3, connect(V3, 0x22, &[&id]), Some(3)),
        (V3, connect(V3, 0x1e, &[&id, &text("t"), &text("x")]), Some(3)),
        (V3, connect(V3, 0x02, &[&id, &[0]]), Some(3)),
        (V3, connect(V3, 0x42, &[&id, &text("p")]), Some(3)),
        (V5, connect(V5, 0x02, &[&id, &[0]]), Some(0x81)),
        (V5, connect(V5, 0x82, &[&id]), Some(0x81)),
        (V5, connect(V5, 0x02, &[&text(b"c\0")]), Some(0x81)),
        (V5, connect(V5, 0x02, &[&text(b"\xff")]), Some(0x81)),
        (V5, v5_with(&[0x21, 0, 0]), Some(0x82)),
        (V5, v5_with(&[0x27, 0, 0, 0, 0]), Some(0x82)),
        (V5, v5_with(&[0x16, 0, 0]), Some(0x82)),
        (V5, v5_with(&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1]), Some(0x82)),
        (V5, v5_with(&[0x02, 0, 0, 0, 1]), Some(0x81)),
        (V5, v5_with(&[0x17, 2]), Some(0x82)),
        (V5, v5_with(&[0x19, 2]), Some(0x82)),
        (V5, v5_with(&[0x21, 0, 1, 0x21, 0, 1]), Some(0x82)),
        (V5, v5_with(&[0x22, 0, 1, 0x22, 0, 1]), Some(0x82)),
        (V5, v5_with(&[0x15, 0, 1, b'm', 0x15, 0, 1, b'm']), Some(0x82)),
        (V5, will("a/+"), Some(0x90)),
        (V5, will(""), Some(0x90)),
    ] {
        let mut client = Raw::open(app.tcp(), version).await;
        client.send(&bytes).await;
        let codes: Vec<_> = client
            .rest()
            .await
            .into_iter()
            .map(|packet| match packet {
                Packet::Connack(connack) if !connack.present => connack.code,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(codes, Vec::from_iter(answer), "{version}: {bytes:02x?}");
        healthy.works().await;
    }
    assert_eq!(app.server.broker.registry.len(), 1);
}

/// Something that looks like what a client says, with something wrong.
fn nonsense(random: &mut Random, version: u8) -> Vec<u8> {
    let filter = *random.choose(&["a", "a/+", "#", "$share/g/a", "nonsense/é"]);
    let (qos, id) = (random.below(3) as u8, random.below(4) as u16);
    let mut bytes = match random.below(6) {
        0 => Publish::new("nonsense/t", random.bytes(40)).qos(qos, id).bytes(version),
        1 => subscribe(version, id, &[], &[(filter, qos), ("b", 1)]),
        2 => unsubscribe(version, id, &[filter]),
        3 => [puback, pubrec, pubrel, pubcomp][random.index(4)](id),
        4 => PING.to_vec(),
        _ => {
            let body = random.bytes(12);
            [&[random.number() as u8][..], &varint(body.len()), &body].concat()
        }
    };
    match random.below(4) {
        0 => {
            let at = random.index(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        1 => bytes.truncate(1 + random.index(bytes.len())),
        _ => {}
    }
    bytes
}

#[tokio::test]
async fn nonsense_harms_nobody() {
    let mut random = Seed::of_this_run().random("nonsense_harms_nobody");
    let app = App::start(|_| {}).await;
    let mut healthy = Healthy::new(&app).await;
    for round in 0..300 {
        let version = *random.choose(&VERSIONS);
        let connect = Connect { clean: random.chance(50), ..Connect::kept(version, "nonsense") };
        let (mut client, connack) = app.connect(&connect).await;
        assert_eq!(connack.code, 0, "round {round}");
        for _ in 0..random.below(30) {
            if !client.try_send(&nonsense(&mut random, version)).await {
                break;
            }
        }
        client.vanish();
        if round % 20 == 0 {
            healthy.works().await;
        }
    }
    healthy.works().await;
    eventually(SOON, "it is gone", async || app.metric("broker_session_connections") == 1).await;
}
