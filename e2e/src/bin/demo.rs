//! `demo`: starts Kafka, the broker, the three services and a few locks on this machine, and tells
//! what happens.
//!
//! It runs on until Ctrl-C, so that people can try things; with `--once` it ends after the story,
//! with exit code 0 if everything that was told came true.

use std::time::Duration;

use clap::Parser;
use latchline_e2e::demo::cast::{OWNER, OWNER_PHONE};
use latchline_e2e::demo::figures::in_words;
use latchline_e2e::demo::further::{look_further, parts};
use latchline_e2e::demo::screen::{heading, proved, say};
use latchline_e2e::demo::story::Story;
use latchline_e2e::kafka::{Choice, Kafka};
use latchline_e2e::signal::ended;
use latchline_e2e::stack::Settings;
use latchline_e2e::stack::notifier::User;
use latchline_e2e::stack::whole::{Whole, Wishes};
use tokio::time::Instant;

/// New data does not wake a waiting fetch of the development Kafka, and what it owes to somebody who
/// asks nothing more does not come after its standstill: that is waited for 6 s, not a minute.
const KAFKA_PROPERTIES: &str = r#"{ "fetch.wait.max.ms" = "10", "socket.timeout.ms" = "6000", "session.timeout.ms" = "15000", "heartbeat.interval.ms" = "1000" }"#;

/// What programs say in the story: of a Kafka that stands still, and of a mail server that is away.
const OUTAGES: [&str; 2] = ["kafka", "relay"];

/// Shows Latchline at work on this machine
#[derive(Parser)]
struct Arguments {
    /// End after the story; the exit code says whether it came true
    #[arg(long, env = "DEMO_ONCE", value_parser = clap::builder::FalseyValueParser::new())]
    once: bool,
    /// Seconds between two reports of a lock
    #[arg(long, default_value_t = 20)]
    interval: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let begun_at = Instant::now();
    let arguments = Arguments::parse();
    tokio::select! {
        result = play(&arguments, begun_at) => result,
        result = ended() => {
            result?;
            // What it started ends with it, because it is dropped.
            say("\nThe demo ends.");
            Ok(())
        }
    }
}

async fn play(arguments: &Arguments, begun_at: Instant) -> anyhow::Result<()> {
    heading("Latchline carries the messages of smart locks from MQTT into Kafka, and loses none");
    say("lock ──MQTT──> broker ──> Kafka ──> auditor    who opened what, with proof\n\
         lock <──signed command──┘       ├──> monitor    the state of every lock, alarms\n\
         \x20                                └──> notifier   tells the owner by mail and SMS");
    let choice = Choice::of_environment()?;
    say(&format!("\nStarting {},\nPostgres, the broker and three services …", choice.name()));
    let mut whole = start(choice, arguments).await?;
    let site = whole.site()?;
    parts(&site);
    proved(&format!("all are ready after {}", in_words(begun_at.elapsed())));

    let folder = whole.stack.folder().to_owned();
    let mut story = Story::begin(&mut whole, Duration::from_secs(arguments.interval), begun_at).await?;
    story.play().await?;
    if arguments.once {
        drop(story);
        whole.finish().await?;
        heading("All of it came true.");
        return Ok(());
    }
    look_further(&site, &folder)?;
    // The locks go on, and what comes is shown.
    std::future::pending().await
}

async fn start(choice: Choice, arguments: &Arguments) -> anyhow::Result<Whole> {
    let owner = User { id: OWNER.to_owned(), phone: OWNER_PHONE, locks: vec!["*".to_owned()] };
    let service: Settings = &[("consumer.kafka.properties", KAFKA_PROPERTIES)];
    let wishes = Wishes {
        users: &[owner],
        well_known_ports: true,
        auditor: service,
        monitor: service,
        notifier: service,
        ..Wishes::default()
    };
    let mut whole = Whole::start(Kafka::start(choice).await?, wishes).await?;
    // What else a program warns of, or a panic, is a failure of the story. Afterwards people try what
    // they like, and nobody shall fail because a program warns.
    let expected = if arguments.once { &OUTAGES[..] } else { &[""] };
    let Whole { stack, audit, monitor, notifier, .. } = &mut whole;
    for program in [&mut stack.broker, &mut audit.auditor, &mut monitor.monitor, &mut notifier.notifier] {
        expected.iter().for_each(|text| program.expect(text));
    }
    Ok(whole)
}
