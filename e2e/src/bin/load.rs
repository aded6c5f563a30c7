//! `load`: the load generator. Starts a stack of its own, lets many locks publish, and says how many
//! messages were acknowledged (so were stored), how long each waited, and what the broker used.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::load::{Outcome, Plan, connect, run};
use latchline_e2e::stack::Stack;
use latchline_shared::message::Protocol;

/// Measures the broker with its bridge and a Kafka, all on this machine
#[derive(Parser)]
struct Arguments {
    /// Number of locks
    #[arg(long, default_value_t = 1_000)]
    locks: u64,
    /// Messages of each lock under way at most
    #[arg(long, default_value_t = 8)]
    window: usize,
    /// Messages per second of all locks together; without it, as fast as acknowledgements come
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds to measure
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 300)]
    payload: usize,
    /// Speak MQTT 5 instead of 3.1.1
    #[arg(long)]
    v5: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    rlimit::increase_nofile_limit(u64::MAX).context("raise the limit of open files")?;
    let plan = Plan {
        locks: arguments.locks.max(1),
        window: arguments.window.max(1),
        rate: arguments.rate,
        duration: Duration::from_secs(arguments.seconds),
        payload_bytes: arguments.payload,
        protocol: if arguments.v5 { Protocol::V5 } else { Protocol::V3 },
    };
    let choice = Choice::of_environment()?;
    println!("{}; {plan:?}", choice.name());
    let stack = Stack::start(Kafka::start(choice).await?).await?;
    let (cpu_before, idle_bytes) = usage(&stack)?;
    let clients = connect(&stack, &plan).await?;
    let (_, connected_bytes) = usage(&stack)?;
    let outcome = run(clients, plan).await?;
    let (cpu, bytes) = usage(&stack)?;
    println!(
        "memory    {} KiB idle, {} KiB with {} locks connected, {} KiB after the load",
        idle_bytes / 1024,
        connected_bytes / 1024,
        plan.locks,
        bytes / 1024
    );
    show(&outcome, cpu.saturating_sub(cpu_before));
    stack.finish().await
}

fn usage(stack: &Stack) -> anyhow::Result<(Duration, usize)> {
    let process = stack.broker.process()?;
    Ok((process.cpu_time()?, process.memory_bytes()?))
}

fn show(outcome: &Outcome, cpu: Duration) {
    let quantiles = [0.5, 0.9, 0.99, 0.999, 1.0]
        .map(|q| format!("p{} {:.1} ms", q * 100.0, outcome.delays_us.value_at_quantile(q) as f64 / 1000.0));
    println!("acked     {} messages in {:.1?}", outcome.acked, outcome.elapsed);
    println!("rate      {:.0} messages/s", outcome.per_second());
    println!("waited    {}", quantiles.join(", "));
    println!(
        "broker    {:.1} µs of processor time a message",
        cpu.as_secs_f64() * 1e6 / outcome.acked as f64
    );
}
