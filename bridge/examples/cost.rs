//! What a message costs on its way through the bridge: processor time by thread, and how long its
//! acknowledgement waits.
//!
//! `cargo run --release -p latchline-bridge --example cost -- [KAFKA] [MESSAGES] [LINGER_MS]`
//!
//! Without `host:port` of a Kafka it starts a development Kafka in this process, whose own thread
//! (`rdk:mock`) is listed apart. Linux only: it reads `/proc`.

#![expect(clippy::disallowed_macros, reason = "a measurement talks to whoever runs it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use latchline_bridge::Bridge;
use latchline_bridge::config::Config;
use latchline_shared::hook::{Hook, PublishAnswer};
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::message::{Client, Message, MessageId, Protocol, Qos};
use latchline_shared::receipt::Receipt;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

const CLIENTS: u64 = 1_000;
/// Connections served by one task, and the messages that each task has under way.
const TASKS: u64 = 2;
const WINDOW: usize = 20_000;
const PAYLOAD_BYTES: usize = 300;
const FILLING: &str = match std::str::from_utf8(&[b'x'; PAYLOAD_BYTES]) {
    Ok(filling) => filling,
    Err(_) => unreachable!(),
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().filter(|servers| servers != "dev");
    let messages: u64 = arguments.next().map_or(Ok(200_000), |text| text.parse())?;
    let linger_ms: Option<u64> = arguments.next().map(|text| text.parse()).transpose()?;

    let topics = ["message_state", "message_command", "message_command_rejected"].map(|name| (name, 12));
    let development = match servers {
        None => Some(DevelopmentKafka::start(&topics)?),
        Some(_) => None,
    };
    let mut config = defaults()?;
    config.kafka.servers = servers
        .or(development.as_ref().map(|kafka| kafka.bootstrap().to_owned()))
        .context("there is one or the other")?;
    if let Some(linger_ms) = linger_ms {
        config.linger = Duration::from_millis(linger_ms);
    }
    let bridge = Bridge::start(&config, "latchline@cost", &mut Registry::default()).await?;
    println!("{messages} messages of {PAYLOAD_BYTES} bytes, linger {:?}", config.linger);

    one_at_a_time(&bridge, 200).await?;
    at_a_rate(&bridge, 2_000, Duration::from_secs(5)).await?;
    all_at_once(&bridge, messages).await?;
    if let Some(kafka) = development {
        kafka.go_down()?;
        while_away(&bridge, 100_000)?;
        kafka.come_up()?;
    }
    Ok(())
}

fn defaults() -> anyhow::Result<Config> {
    #[derive(Deserialize)]
    struct Broker {
        bridge: Config,
    }
    Ok(toml::from_str::<Broker>(include_str!("../../config/broker.toml"))?.bridge)
}

/// The time from a hook to its receipt when nothing else is going on.
async fn one_at_a_time(bridge: &Bridge, messages: u64) -> anyhow::Result<()> {
    let client = client(0);
    let mut took = Vec::new();
    for n in 0..messages {
        let sent_at = Instant::now();
        publish(bridge, &client, n).await?;
        took.push(sent_at.elapsed());
    }
    print_times("one at a time", &mut took);
    Ok(())
}

/// The same at a steady rate from many clients.
async fn at_a_rate(bridge: &Arc<Bridge>, per_second: u64, duration: Duration) -> anyhow::Result<()> {
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let mut waiting = JoinSet::new();
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let cpu_before = cpu_by_thread()?;
    for n in 0..per_second * duration.as_secs() {
        if n % (per_second / 1_000) == 0 {
            ticks.tick().await;
        }
        let (sent_at, receipt) = (Instant::now(), publish(bridge, &clients[(n % CLIENTS) as usize], n));
        waiting.spawn(async move { receipt.await.map(|()| sent_at.elapsed()) });
    }
    let mut took = Vec::new();
    while let Some(result) = waiting.join_next().await {
        took.push(result??);
    }
    print_times(&format!("{per_second} a second"), &mut took);
    print_cpu(&cpu_before, &cpu_by_thread()?, took.len() as u64);
    Ok(())
}

/// As fast as it goes, with a bound on what is under way.
async fn all_at_once(bridge: &Arc<Bridge>, messages: u64) -> anyhow::Result<()> {
    let (started_at, cpu_before) = (Instant::now(), cpu_by_thread()?);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let bridge = Arc::clone(bridge);
        tasks.spawn(async move {
            let clients: Vec<_> =
                (0..CLIENTS / TASKS).map(|index| client(task * CLIENTS / TASKS + index)).collect();
            let (mut window, mut in_hook) = (VecDeque::new(), Duration::ZERO);
            for n in 0..messages / TASKS {
                let called_at = Instant::now();
                window.push_back(publish(&bridge, &clients[n as usize % clients.len()], n));
                in_hook += called_at.elapsed();
                if window.len() >= WINDOW
                    && let Some(receipt) = window.pop_front()
                {
                    receipt.await?;
                }
            }
            for receipt in window {
                receipt.await?;
            }
            anyhow::Ok(in_hook)
        });
    }
    let mut in_hook = Duration::ZERO;
    while let Some(task) = tasks.join_next().await {
        in_hook += task??;
    }
    let took = started_at.elapsed();
    let rate = messages as f64 / took.as_secs_f64();
    let hook_us = in_hook.as_secs_f64() * 1e6 / messages as f64;
    println!("at once: {rate:.0} messages/s, {hook_us:.2} µs in the hook");
    print_cpu(&cpu_before, &cpu_by_thread()?, messages);
    Ok(())
}

/// The memory that waiting records take; payloads are freed, as in the broker they would not be.
fn while_away(bridge: &Bridge, messages: u64) -> anyhow::Result<()> {
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let before = resident_bytes()?;
    let receipts: Vec<_> =
        (0..messages).map(|n| publish(bridge, &clients[(n % CLIENTS) as usize], n)).collect();
    println!("while Kafka is away: {} bytes a message", (resident_bytes()? - before) / receipts.len());
    Ok(())
}

fn client(index: u64) -> Client {
    Client {
        id: format!("{}", 10_083_618_796_833_171 + index).into(),
        username: "".into(),
        role: "lock".into(),
        protocol: Protocol::V5,
        peer: ([127, 0, 0, 1], 50_000).into(),
        session: 1_700_000_000_000_000 + index,
        sequence: Default::default(),
    }
}

fn publish(bridge: &Bridge, client: &Client, n: u64) -> Receipt {
    let message = Message {
        mid: MessageId(u128::from(n)),
        from: client.id.clone(),
        topic: format!("devices/{}/state", client.id).into(),
        payload: payload(n).into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        dup: false,
        packet_id: Some((n % 65_535) as u16 + 1),
        properties: None,
        received_at: Instant::now(),
        expiry: None,
    };
    match bridge.message_publish(client, &message) {
        PublishAnswer::Accept(receipt)
        | PublishAnswer::Absorb(receipt)
        | PublishAnswer::Reject(_, receipt) => receipt,
    }
}

fn payload(n: u64) -> String {
    let mut payload = format!(
        r#"{{"process_id":"{:016}","action":"unlock","battery":{}.{},"lock_state":{},"version":1.1,"filling":""#,
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000_000_000_000_000,
        n % 100,
        n % 10,
        n % 2,
    );
    payload.push_str(&FILLING[..PAYLOAD_BYTES - payload.len() - 2]);
    payload.push_str("\"}");
    payload
}

fn print_times(what: &str, took: &mut [Duration]) {
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 1_000];
    println!("{what}: stored after p50 {:.2?}, p99 {:.2?}, most {:.2?}", at(500), at(990), at(1_000));
}

fn print_cpu(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, messages: u64) {
    for (thread, ticks) in after {
        // A tick is 10 ms.
        let us = (ticks - before.get(thread).unwrap_or(&0)) as f64 * 10_000.0 / messages as f64;
        if us >= 0.05 {
            println!("  {us:6.2} µs a message in {thread}");
        }
    }
}

fn resident_bytes() -> anyhow::Result<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).context("a field of /proc/self/statm")?.parse::<usize>()? * 4096)
}

/// Processor time in ticks, by the name of the thread.
fn cpu_by_thread() -> anyhow::Result<BTreeMap<String, u64>> {
    let mut ticks = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(task?.path().join("stat"))?;
        let (name, rest) = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(") "))
            .context("a line of /proc/self/task/*/stat")?;
        let field = |index: usize| rest.split(' ').nth(index).and_then(|text| text.parse::<u64>().ok());
        // The 14th and 15th of all fields: in user mode and in the kernel.
        *ticks.entry(name.to_owned()).or_default() +=
            field(11).unwrap_or_default() + field(12).unwrap_or_default();
    }
    Ok(ticks)
}
