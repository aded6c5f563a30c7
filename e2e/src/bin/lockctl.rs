//! `lockctl`: the operator's command line. Sends signed commands and waits for the lock's answer,
//! watches reports, and shows what Kafka has stored.
#![expect(clippy::disallowed_macros, reason = "a command-line tool talks on standard output")]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use latchline_e2e::arguments::{Key, Server};
use latchline_e2e::kafka::reader::{From, Reader};
use latchline_e2e::operator::{Acked, Command, Operator};
use latchline_e2e::{mqtt, random, show};
use latchline_shared::command::Action;

/// The lock did not do it, and said so.
const EXIT_REFUSED: u8 = 2;
/// The lock, or the broker, said nothing in time.
const EXIT_TIMEOUT: u8 = 3;

/// Commands locks and shows what comes of it
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Unlock a lock
    Unlock(Send),
    /// Lock a lock
    Lock(Send),
    /// Show the reports of all locks, or of one, as they come
    Watch {
        #[command(flatten)]
        connection: Connection,
        /// Id of the lock
        #[arg(default_value = "+")]
        id: String,
    },
    /// Print the MQTT password that a lock of the fleet was given
    Password {
        #[command(flatten)]
        key: Key,
        /// Id of the lock
        id: String,
    },
    /// Show the records of a stream: what is stored, or with --follow what comes
    Records {
        /// Name of the stream, for instance message_state
        stream: String,
        /// Kafka to read from, host:port
        #[arg(long, env = "LATCHLINE_KAFKA", default_value = "127.0.0.1:9092")]
        kafka: String,
        /// With --follow: begin with the oldest record, not with the next
        #[arg(long)]
        from_beginning: bool,
        /// Wait for more, until Ctrl-C
        #[arg(long)]
        follow: bool,
    },
}

#[derive(Args)]
struct Send {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    key: Key,
    /// Id of the lock
    id: String,
    /// Spoil the signature, as somebody without the key would have to
    #[arg(long)]
    forge: bool,
    /// Send the same bytes a second time, as somebody who listened in could
    #[arg(long)]
    replay: bool,
    /// Seconds to wait for the answer
    #[arg(long, default_value_t = 10)]
    wait: u64,
}

#[derive(Args)]
struct Connection {
    #[command(flatten)]
    server: Server,
    /// User name
    #[arg(long, env = "LATCHLINE_USERNAME", default_value = "operator")]
    username: String,
    /// Password
    #[arg(long, env = "LATCHLINE_PASSWORD", hide_env_values = true)]
    password: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().action {
        Verb::Unlock(send) => command(&send, Action::Unlock).await,
        Verb::Lock(send) => command(&send, Action::Lock).await,
        Verb::Watch { connection, id } => watch(&connection, &id).await,
        Verb::Password { key, id } => {
            println!("{}", key.read()?.mqtt_password(&id));
            Ok(ExitCode::SUCCESS)
        }
        Verb::Records { stream, kafka, from_beginning, follow } => {
            records(&kafka, &stream, from_beginning, follow).await
        }
    }
}

async fn command(send: &Send, action: Action) -> anyhow::Result<ExitCode> {
    let mut operator = Operator::connect(options(&send.connection)?, &send.id).await?;
    let signed = Command::sign(&send.key.read()?, &send.id, action)?;
    let first = if send.forge { signed.forged()? } else { signed };
    let exit = show_answer(&mut operator, &first, send.wait).await?;
    match send.replay {
        true => show_answer(&mut operator, &first.replayed(), send.wait).await,
        false => Ok(exit),
    }
}

async fn show_answer(operator: &mut Operator, command: &Command, wait: u64) -> anyhow::Result<ExitCode> {
    println!("sent      {}", command.payload);
    let answer = operator.send(command, Duration::from_secs(wait)).await?;
    match &answer.acked {
        Acked::After(time) => println!("accepted  by the broker after {time:.1?}"),
        Acked::Refused(why) => println!("refused   by the broker: {why}"),
        Acked::Missing => println!("accepted  no: the broker is silent"),
    }
    let Some((after, report)) = &answer.report else {
        println!("answered  no");
        let refused = matches!(answer.acked, Acked::Refused(_));
        return Ok(ExitCode::from(if refused { EXIT_REFUSED } else { EXIT_TIMEOUT }));
    };
    println!("answered  by the lock after {after:.1?}: {}", show::report(report));
    let done = report.result.as_deref().is_none_or(|result| result == "ok");
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
}

async fn watch(connection: &Connection, id: &str) -> anyhow::Result<ExitCode> {
    let mut operator = Operator::connect(options(connection)?, id).await?;
    // Runs until Ctrl-C, which ends the process.
    loop {
        let received = operator.next_report().await?;
        println!("{}  {}", received.topic, String::from_utf8_lossy(&received.payload));
    }
}

async fn records(kafka: &str, stream: &str, from_beginning: bool, follow: bool) -> anyhow::Result<ExitCode> {
    let from = if from_beginning || !follow { From::Beginning } else { From::End };
    let mut reader = Reader::open(kafka, &[stream], from).await?;
    // With --follow it runs until Ctrl-C; without, until nothing more comes.
    let wait = Duration::from_secs(if follow { 3600 } else { 2 });
    loop {
        match reader.next(wait).await? {
            Some(record) => println!("{}", show::record(&record)),
            None if follow => {}
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn options(connection: &Connection) -> anyhow::Result<mqtt::Options> {
    let (host, port) = connection.server.address()?;
    Ok(mqtt::Options {
        host,
        port,
        // A user's client ids begin with the user's name.
        client_id: format!("{}-{}", connection.username, random::process_id().context("choose a client id")?),
        login: Some((connection.username.clone(), connection.password.clone())),
        protocol: connection.server.protocol(),
        session: mqtt::Session::Clean,
    })
}
