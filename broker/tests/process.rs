//! The binary as a process: what only `main.rs` decides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

/// A running broker; it ends when dropped.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_its_bridge_the_broker_is_ready_without_kafka() {
    let child = Command::new(env!("CARGO_BIN_EXE_latchline-broker"))
        .env("LATCHLINE_BROKER__BRIDGE__ENABLED", "false")
        .env("LATCHLINE_BROKER__LISTEN__TCP", "127.0.0.1:0")
        .env("LATCHLINE_BROKER__LISTEN__WS", "")
        .env("LATCHLINE_BROKER__HTTP__ADDRESS", "127.0.0.1:0")
        .env("LATCHLINE_BROKER__LOG__FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut broker = Broker(child);
    let mut log = BufReader::new(broker.0.stderr.take().unwrap()).lines();
    let address = log
        .find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert!(!line.to_string().contains("kafka"), "{line}");
            let is_http = line["message"] == "listening" && line["listener"] == "http";
            is_http.then(|| line["address"].as_str().unwrap().to_owned())
        })
        .expect("it listens");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
