//! `kafka`: the Kafka of the tests and the demo, in the foreground, without Docker.
//!
//! `kafka describe` says which one this machine gets and fetches what it needs; `kafka run` starts
//! it with the streams of the broker's default rules.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use anyhow::Context;
use clap::{Parser, Subcommand};
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::stack::{COMMANDS, REJECTED, STATES};

/// Streams of the default rules. One lock's records keep their order across them, on one partition
/// number, because all have as many partitions.
const STREAMS: [&str; 3] = [STATES, COMMANDS, REJECTED];

/// The Kafka of the tests and the demo, without Docker; KAFKA=apache, dev or host:port chooses
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Say which Kafka it is, and fetch it if need be
    Describe,
    /// Start it, create the streams, run until Ctrl-C
    Run {
        /// Partitions of each stream
        #[arg(long, default_value_t = 6)]
        partitions: i32,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().action {
        Action::Describe => {
            println!("Kafka: {}", Choice::of_environment()?.name());
            Ok(())
        }
        Action::Run { partitions } => {
            let kafka = Kafka::start(Choice::of_environment()?).await?;
            for stream in STREAMS {
                kafka.create_stream(stream, partitions).await?;
            }
            println!("{} is at {}; streams {}", kafka.choice().name(), kafka.bootstrap(), STREAMS.join(", "));
            tokio::signal::ctrl_c().await.context("wait for Ctrl-C")
        }
    }
}
