//! MQTT over WebSocket: a byte stream in binary frames, however it is cut into them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use latchline_broker::listen::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::app::App;
use crate::raw::bytes::{Connect, GOODBYE, PING, Publish, V3, V5, VERSIONS, puback, subscribe};
use crate::raw::read::{Packet, take};
use crate::raw::{Raw, SOON};

struct Ws {
    stream: WebSocketStream<TcpStream>,
    input: BytesMut,
    version: u8,
}

impl Ws {
    async fn open(app: &App, version: u8) -> Self {
        let address = app.address(Kind::Ws);
        let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "chat, mqtt".parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let (stream, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self { stream, input: BytesMut::new(), version }
    }

    async fn connect(app: &App, connect: &Connect) -> Self {
        let mut ws = Self::open(app, connect.version).await;
        ws.send(connect.bytes()).await;
        assert!(matches!(ws.next().await, Some(Packet::Connack(connack)) if connack.code == 0));
        ws
    }

    async fn send(&mut self, bytes: impl Into<Bytes>) {
        self.stream.send(Message::Binary(bytes.into())).await.unwrap();
    }

    /// One message in as many frames as there are parts.
    async fn send_frames(&mut self, parts: &[&[u8]]) {
        for (index, part) in parts.iter().enumerate() {
            let data = if index == 0 { Data::Binary } else { Data::Continue };
            let part = Bytes::copy_from_slice(part);
            let frame = Frame::message(part, OpCode::Data(data), index + 1 == parts.len());
            self.stream.send(Message::Frame(frame)).await.unwrap();
        }
    }

    /// The next packet, `None` if the connection is closed.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = take(self.version, &mut self.input) {
                return Some(packet);
            }
            match timeout(SOON, self.stream.next()).await.expect("a frame in time") {
                Some(Ok(Message::Binary(bytes))) => self.input.extend_from_slice(&bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => panic!("{other:?} instead of a binary frame"),
            }
        }
    }
}

#[tokio::test]
async fn packets_and_frames_need_not_agree() {
    let app = App::start(|_| {}).await;
    for version in VERSIONS {
        let mut ws = Ws::connect(&app, &Connect::new(version, "client")).await;
        let publish = Publish::new("t", "hello").qos(1, 1).bytes(version);
        // Several packets in one frame.
        ws.send([&subscribe(version, 9, &[], &[("t", 1)])[..], &publish, &PING].concat()).await;
        assert_eq!(ws.next().await, Some(Packet::Suback(9, vec![1])));
        let mut others = vec![ws.next().await.unwrap(), ws.next().await.unwrap(), ws.next().await.unwrap()];
        others.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert!(others.contains(&Packet::Puback(1, 0)) && others.contains(&Packet::Pingresp), "{others:?}");
        let Some(Packet::Publish(message)) = others.pop() else { panic!("no message") };
        ws.send(puback(message.id)).await;
        // One packet over several frames, and frames of nothing.
        for byte in &publish[..7] {
            ws.send(vec![*byte]).await;
        }
        ws.send(vec![]).await;
        ws.send([&publish[7..], &PING[..1]].concat()).await;
        ws.send(vec![PING[1]]).await;
        let mut others = [ws.next().await.unwrap(), ws.next().await.unwrap(), ws.next().await.unwrap()];
        others.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert!(matches!(&others[2], Packet::Publish(message) if message.payload == b"hello"), "{others:?}");
        // One message in fragments, with a ping between them.
        ws.send_frames(&[&PING[..1], &[], &PING[1..]]).await;
        assert_eq!(ws.next().await, Some(Packet::Pingresp));
        ws.send(GOODBYE.to_vec()).await;
        assert_eq!(ws.next().await, None);
    }
}

#[tokio::test]
async fn large_payloads_pass_both_ways_between_websocket_and_tcp() {
    let app = App::start(|_| {}).await;
    let mut ws = Ws::connect(&app, &Connect::new(V5, "ws")).await;
    ws.send(subscribe(V5, 1, &[], &[("to/ws", 1)])).await;
    ws.next().await;
    let mut tcp = app.client(V3, "tcp").await;
    tcp.subscribe("to/tcp", 1).await;
    for size in [1, 4096, 65_536, 262_000] {
        let payload = vec![b'x'; size];
        ws.send(Publish::new("to/tcp", &payload).qos(1, 1).bytes(V5)).await;
        assert_eq!(ws.next().await, Some(Packet::Puback(1, 0)));
        assert!(tcp.receive().await.payload == payload);
        tcp.publish(&Publish::new("to/ws", &payload).qos(1, 1)).await;
        let Some(Packet::Publish(message)) = ws.next().await else { panic!("no message") };
        assert!(message.payload == payload);
        ws.send(puback(message.id)).await;
    }
}

#[tokio::test]
async fn websocket_pings_are_answered_and_do_not_keep_mqtt_alive() {
    let app = App::start(|_| {}).await;
    let mut ws = Ws::connect(&app, &Connect::new(V5, "client").keep_alive(1)).await;
    ws.stream.send(Message::Ping(Bytes::from_static(b"hello"))).await.unwrap();
    let pong = timeout(SOON, ws.stream.next()).await.expect("in time");
    assert_eq!(pong.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"hello")));
    let ping = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if ws.stream.send(Message::Ping(Bytes::new())).await.is_err() {
                break;
            }
        }
    };
    // It ends because MQTT is silent.
    timeout(SOON, ping).await.expect("the keep alive holds");
    app.forgotten("client").await;
}

#[tokio::test]
async fn a_text_frame_ends_the_connection() {
    let app = App::start(|_| {}).await;
    let mut tcp = app.client(V5, "tcp").await;
    tcp.subscribe("will", 1).await;
    for early in [true, false] {
        let connect = Connect::new(V5, "client").will("will", "text");
        let mut ws = if early { Ws::open(&app, V5).await } else { Ws::connect(&app, &connect).await };
        ws.stream.send(Message::text("\u{10}\u{2}")).await.unwrap();
        assert_eq!(ws.next().await, None);
        if !early {
            assert_eq!(tcp.payload().await, "text");
        }
    }
}

#[tokio::test]
async fn a_close_frame_or_a_reset_is_no_goodbye() {
    let app = App::start(|_| {}).await;
    let mut tcp = app.client(V5, "tcp").await;
    tcp.subscribe("will", 1).await;
    let connect = Connect::new(V5, "client").will("will", "gone");
    let mut ws = Ws::connect(&app, &connect).await;
    ws.stream.close(None).await.unwrap();
    assert_eq!(tcp.payload().await, "gone");
    let ws = Ws::connect(&app, &connect).await;
    ws.stream.get_ref().set_zero_linger().unwrap();
    drop(ws);
    assert_eq!(tcp.payload().await, "gone");
}

#[tokio::test]
async fn what_is_not_the_right_request_is_refused() {
    let app = App::start(|config| config.limits.connect_timeout = Duration::from_millis(500)).await;
    let address = app.address(Kind::Ws);
    for (path, protocol, status) in
        [("/other", "mqtt", 404), ("/", "mqtt", 404), ("/mqtt/", "mqtt", 404), ("/mqtt", "chat", 400)]
    {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        let error = tokio_tungstenite::client_async(request, stream).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{error}") };
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
    // Without a subprotocol, and with a query, it is ours.
    let request = format!("ws://{address}/mqtt?x=1").into_client_request().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (_, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert!(!response.headers().contains_key("Sec-WebSocket-Protocol"));
    // Plain MQTT, plain HTTP, half a request: closed, in time.
    for bytes in [&Connect::new(V5, "client").bytes()[..], b"GET /mqtt HTTP/1.1\r\n\r\n", b"GET /mqtt HT"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _reset = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("closed in time");
        assert!(!answer.starts_with(&[0x20]), "no MQTT is spoken");
    }
    // And no WebSocket on the plain listener.
    let mut raw = Raw::open(app.tcp(), V3).await;
    raw.send(b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(raw.rest().await, []);
}

#[tokio::test]
async fn a_frame_above_the_maximum_ends_the_connection() {
    let app = App::start(|config| config.limits.packet_bytes_max = 2000).await;
    let mut ws = Ws::connect(&app, &Connect::new(V5, "client")).await;
    ws.send(PING.repeat(500)).await;
    for _ in 0..500 {
        assert_eq!(ws.next().await, Some(Packet::Pingresp));
    }
    ws.send(PING.repeat(1001)).await;
    assert_eq!(ws.next().await, None);
    app.forgotten("client").await;
}
