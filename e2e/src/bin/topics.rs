//! `topics`: creates all streams in Kafka, with the right numbers of partitions, before anyone needs
//! them. One that is there is left as it is.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use clap::Parser;
use latchline_e2e::containers::streams;

/// Creates the streams of Latchline
#[derive(Parser)]
struct Arguments {
    /// Kafka, host:port
    #[arg(long, env = "LATCHLINE_KAFKA", default_value = "127.0.0.1:9092")]
    kafka: String,
    /// Partitions of each stream that has records of locks
    #[arg(long, env = "LATCHLINE_PARTITIONS", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let names = streams::create(&arguments.kafka, arguments.partitions).await?;
    println!("{} streams are there: {}", names.len(), names.join(", "));
    Ok(())
}
