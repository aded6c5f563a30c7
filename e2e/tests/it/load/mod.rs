//! The load generator: every mode against our broker and mosquitto, and what it says of brokers
//! that do wrong. Nothing here depends on how fast the machine is.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use latchline_e2e::bench::target::mosquitto;
use latchline_e2e::client::Client;
use latchline_e2e::client::packet::Connect;
use latchline_e2e::load::modes::Mode;
use latchline_e2e::load::report::Report;
use latchline_e2e::load::stage::make_room;
use latchline_e2e::load::tally::{Cause, Kind};
use latchline_e2e::process::{Process, free_port};
use latchline_e2e::stack::program::{Name, Program};
use latchline_e2e::stack::secrets::{OPERATOR, Secrets};
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::{Protocol, Qos};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::DEADLINE;

mod wrong;

use wrong::{Broker, Wrong};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    mode: Mode,
}

async fn load(words: &str, further: &[&str]) -> anyhow::Result<Report> {
    let words = ["load"].into_iter().chain(words.split(' ')).chain(further.iter().copied());
    Arguments::try_parse_from(words).unwrap().mode.run().await
}

/// What was due, acknowledged and received of a kind.
fn counts(report: &Report, kind: Kind) -> (u64, u64, u64) {
    let messages = report.messages.iter().find(|messages| messages.kind == kind);
    messages.map_or((0, 0, 0), |messages| (messages.due, messages.acked, messages.received))
}

fn faults(report: &Report, cause: Cause) -> u64 {
    report.faults.iter().find(|fault| fault.cause == cause).map_or(0, |fault| fault.count)
}

/// All modes, few of everything; the checks hold for every broker.
async fn run_all_modes(target: SocketAddr, pid: u32, further: &[&str]) {
    let (target, pid) = (target.to_string(), pid.to_string());
    let common = ["-n", "20", "--target", &target, "--pid", &pid, "--seconds", "0.5", "--warm-up", "0.1"];
    let further = [&common[..], further].concat();
    for words in [
        "connect",
        "connect --connect-rate 500",
        // It takes longer than the broker bears silence.
        "connect --connect-rate 8 --keep-alive 1",
        "idle",
        "publish --qos 0 --rate 200 --subscribers 1",
        "publish --qos 0 --rate max --payload 20",
        "publish --qos 1 --rate 200 --subscribers 2 --publishers 3",
        "publish --qos 1 --rate max --protocol 5",
        "publish --qos 2 --rate 200 --subscribers 1 --protocol 5",
        "publish --qos 2 --rate max --window 3",
        "commands --qos 1 --rate 100 --operators 3",
        "commands --qos 2 --rate max --protocol 5",
        "fleet --every 0.2 --jitter 0.1 --unlocks 50 --subscribers 1 --operators 2",
        "reconnect --rounds 2 --kept",
        "reconnect --close fin --protocol 5",
    ] {
        let report = load(words, &further).await.unwrap_or_else(|error| panic!("{words}: {error:#}"));
        assert!(report.is_clean(), "{words}: {report}");
        let connected = if words.contains("rounds 2") { 40 } else { 20 };
        assert_eq!(report.connect.count, connected, "{words}: {report}");
        assert!(report.retries.is_empty(), "{words}: {report}");
        // Connecting may be over before the first millisecond is.
        let is_brief = words.contains("connect");
        assert!(is_brief || report.reading.count > 0, "{words}: {report}");
        assert_eq!((report.setup.connections, report.setup.seconds), (20, 0.5));
        for phase in &report.phases {
            let [process] = &phase.processes[..] else { panic!("{words}: {report}") };
            assert!(process.memory_bytes > 1 << 20 && phase.seconds > 0.0, "{words}: {report}");
            let has_grown = ["connect", "operators connect", "subscribe"].contains(&phase.name.as_str());
            assert_eq!(process.memory_bytes_each.is_some(), has_grown, "{words}: {report}");
        }
        check_messages(words, &report);
    }
}

fn check_messages(words: &str, report: &Report) {
    let (report_due, report_acked, report_received) = counts(report, Kind::Report);
    let (command_due, command_acked, command_received) = counts(report, Kind::Command);
    let (answer_due, answer_acked, answer_received) = counts(report, Kind::Answer);
    let mode = words.split(' ').next().unwrap();
    assert_eq!(report_due > 0, ["publish", "fleet"].contains(&mode), "{words}: {report}");
    assert_eq!(command_due > 0, ["commands", "fleet"].contains(&mode), "{words}: {report}");
    assert_eq!(answer_due > 0, mode == "fleet", "{words}: {report}");
    let subscribers = words.split("--subscribers ").nth(1).map_or(0, |rest| rest[..1].parse().unwrap());
    assert_eq!((report_acked, report_received), (report_due, subscribers * report_due), "{words}: {report}");
    assert_eq!((command_acked, command_received), (command_due, command_due), "{words}: {report}");
    assert_eq!((answer_due, answer_acked), (command_due * u64::from(mode == "fleet"), answer_due));
    assert_eq!(answer_received, answer_due, "{words}: {report}");
    if words.contains("--rate 200") {
        // 200 a second for 0.6 s, from the first to the last.
        assert!((119..=121).contains(&report_due), "{words}: {report}");
    }
    for messages in &report.messages {
        let (is_closed, qos_0) = (words.contains("--rate max"), words.contains("--qos 0"));
        assert_eq!(
            (messages.acked_after.is_none(), messages.received_after.is_none()),
            (is_closed, is_closed)
        );
        let delays = messages.acked_after.or(messages.closed_loop_round_trip).unwrap();
        assert_eq!(delays.count > 0, !qos_0, "{words}: {report}");
        assert!(delays.p50_ms <= delays.max_ms, "{words}: {report}");
    }
}

/// Our broker without a bridge, by TCP and TLS, with its guard.
struct Ours {
    program: Program,
    secrets: Secrets,
    folder: TempDir,
}

impl Ours {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::random().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(path("certificate.pem"), cert.pem()).unwrap();
        std::fs::write(path("key.pem"), signing_key.serialize_pem()).unwrap();
        secrets.write_credentials(path("credentials").as_ref()).unwrap();
        let any_port = || "127.0.0.1:0".to_owned();
        let settings = [
            ("listen.tcp", any_port()),
            ("listen.tls", any_port()),
            ("listen.ws", String::new()),
            ("listen.certificate_file", path("certificate.pem")),
            ("listen.key_file", path("key.pem")),
            ("http.address", String::new()),
            ("access.fleet_master_key", secrets.master_hex.clone()),
            ("access.credentials_file", path("credentials")),
            ("guard.mode", "enforce".to_owned()),
            ("bridge.enabled", "false".to_owned()),
        ];
        let mut program = Program::new(Name::Broker, settings);
        program.start(&["tcp", "tls"]).await.unwrap();
        // The guard refuses what was signed before it started, by the second.
        sleep(Duration::from_secs(1)).await;
        Self { program, secrets, folder }
    }

    async fn run_all_modes(&self, listener: &str, further: &[&str]) {
        let secrets = &self.secrets;
        let login = ["--master-key", &secrets.master_hex, "--operator", OPERATOR];
        let password = ["--operator-password", &secrets.operator];
        let pid = self.program.process().unwrap().id();
        let further = [&login[..], &password, further].concat();
        run_all_modes(self.program.address(listener), pid, &further).await;
    }
}

#[tokio::test]
async fn every_mode_loads_our_broker() {
    let mut broker = Ours::start().await;
    broker.run_all_modes("tcp", &[]).await;
    broker.program.stop().await.unwrap();
}

#[tokio::test]
async fn every_mode_loads_our_broker_through_tls() {
    let mut broker = Ours::start().await;
    let ca = broker.folder.path().join("certificate.pem").display().to_string();
    broker.run_all_modes("tls", &["--tls", "--ca", &ca, "--tls-name", "localhost"]).await;
    // Not by any other name.
    let target = broker.program.address("tls").to_string();
    let further = ["--target", &target, "--tls", "--ca", &ca, "--tls-name", "elsewhere"];
    let error = load("connect -n 2", &further).await.unwrap_err();
    assert!(format!("{error:#}").contains("TLS"), "{error:#}");
    broker.program.stop().await.unwrap();
}

#[tokio::test]
async fn every_mode_loads_mosquitto() {
    let Some(binary) = mosquitto() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, port) = (folder.path().join("mosquitto.conf"), free_port().unwrap());
    // Its bound of 1,000 messages that wait for a receiver is for others to measure.
    let configuration =
        format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n");
    std::fs::write(&file, configuration).unwrap();
    let process = Process::start("mosquitto", Command::new(binary).arg("-c").arg(&file)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually(DEADLINE, "mosquitto is up", async || TcpStream::connect(address).await.is_ok()).await;
    run_all_modes(address, process.id(), &[]).await;
    // As the program: a table, JSON, and an exit code that says whether all went well.
    let json = folder.path().join("load.json").display().to_string();
    let run = |target: String| {
        let mut load = Command::new(env!("CARGO_BIN_EXE_load"));
        load.args(["publish", "-n", "2", "--seconds", "0.2", "--json", &json, "--target", &target]);
        load.output().unwrap()
    };
    let output = run(address.to_string());
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{table}");
    for line in ["report acknowledged", "nothing lost", "open loop, 1000 a second", "lateness: reading"] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&written["mode"], &written["faults"]), (&"publish".into(), &serde_json::json!([])));
    drop(process);
    assert_eq!(run(address.to_string()).status.code(), Some(2));
}

#[tokio::test]
async fn a_stall_delays_all_that_was_due_meanwhile() {
    const STALL: Duration = Duration::from_secs(1);
    let mut broker = Ours::start().await;
    let process = broker.program.process().unwrap();
    let operator = Connect {
        protocol: Protocol::V3,
        client_id: OPERATOR,
        login: Some((OPERATOR, &broker.secrets.operator)),
        clean: true,
        session_expiry_s: 0,
        keep_alive_s: 60,
    };
    let (mut operator, _) = Client::connect(broker.program.address("tcp"), &operator).await.unwrap();
    operator.subscribe("devices/+/state", Qos::AtMostOnce).await.unwrap();
    let stall = async {
        operator.receive().await.unwrap();
        process.pause().await.unwrap();
        sleep(STALL).await;
        process.resume().unwrap();
    };
    let target = broker.program.address("tcp").to_string();
    let further = ["--target", &target, "--master-key", &broker.secrets.master_hex];
    let words = "publish -n 4 --rate 200 --seconds 3 --warm-up 0.5";
    let (report, ()) = tokio::join!(load(words, &further), stall);
    let report = report.unwrap();
    assert!(report.is_clean() && (699..=701).contains(&counts(&report, Kind::Report).0), "{report}");
    // Part of the stall is before the window, but more than one message in twenty waited for half of it.
    let delays = report.messages[0].acked_after.unwrap();
    assert!(delays.max_ms >= 400.0 && delays.p95_ms >= 100.0, "{report}");
    broker.program.stop().await.unwrap();
}

#[tokio::test]
async fn who_is_refused_hears_why() {
    let mut broker = Ours::start().await;
    let target = broker.program.address("tcp").to_string();
    let error = load("connect -n 3", &["--target", &target]).await.unwrap_err();
    assert!(format!("{error:#}").contains("CONNACK 0x0"), "{error:#}");
    // Subscribers are locks here, which may not listen to others.
    let further = ["--target", &target, "--master-key", &broker.secrets.master_hex];
    let error = load("publish -n 3 --subscribers 1", &further).await.unwrap_err();
    assert!(format!("{error:#}").contains("instead of a grant"), "{error:#}");
    broker.program.stop().await.unwrap();

    let error = make_room(1 << 40).unwrap_err().to_string();
    assert!(error.contains("open files") && error.contains("RLIMIT_NOFILE"), "{error}");
}

async fn load_wrong(broker: &Broker, words: &str) -> anyhow::Result<Report> {
    let target = broker.target();
    let further = ["--protocol", "5", "--target", &target];
    tokio::select! {
        report = load(words, &further) => report,
        () = broker.serve() => panic!("it serves forever"),
    }
}

#[tokio::test]
async fn what_a_broker_does_wrong_is_counted_by_cause() {
    for (wrong, expected) in [
        (Wrong::ForgetsEveryThirdAck, &[Cause::Unacknowledged][..]),
        (Wrong::SwapsAcks, &[Cause::OutOfOrder]),
        (Wrong::RefusesMessages, &[Cause::MessageRefused]),
        (Wrong::HangsUpAfterFive, &[Cause::Disconnected, Cause::NotSent]),
        (Wrong::DeliversNothing, &[Cause::Lost]),
        (Wrong::DeliversTwice, &[Cause::Repeated]),
        (Wrong::SaysNonsense, &[Cause::Protocol]),
        (Wrong::StopsReading, &[Cause::Unacknowledged]),
    ] {
        let has_subscriber = matches!(wrong, Wrong::DeliversNothing | Wrong::DeliversTwice);
        let subscribers = if has_subscriber { "1" } else { "0" };
        let words = "publish -n 1 --rate 100 --seconds 0.5 --drain 0.5 --subscribers";
        let broker = Broker::bind(wrong).await;
        let report = load_wrong(&broker, &format!("{words} {subscribers}")).await.unwrap();
        assert!(!report.is_clean());
        for &cause in expected {
            assert!(faults(&report, cause) > 0, "{wrong:?}: {report}");
        }
        let due = counts(&report, Kind::Report).0;
        match wrong {
            Wrong::ForgetsEveryThirdAck => assert_eq!(faults(&report, Cause::Unacknowledged), due / 3),
            Wrong::RefusesMessages => assert_eq!(faults(&report, Cause::MessageRefused), due),
            Wrong::DeliversNothing => assert_eq!(faults(&report, Cause::Lost), due),
            Wrong::DeliversTwice => assert_eq!(faults(&report, Cause::Repeated), due),
            _ => {}
        }
    }
}

#[tokio::test]
async fn messages_of_qos_0_count_when_they_have_left() {
    const WORDS: &str = "publish -n 1 --qos 0 --warm-up 0 --seconds 0.5 --drain";
    // What the kernel has taken counts as sent, but the broker never says that it has read it.
    let broker = Broker::bind(Wrong::StopsReading).await;
    let report = load_wrong(&broker, &format!("{WORDS} 0.5 --rate 100")).await.unwrap();
    assert_eq!(counts(&report, Kind::Report), (50, 50, 0), "{report}");
    assert_eq!(faults(&report, Cause::Unacknowledged), 1, "{report}");
    // More than the kernel takes: 40 MB.
    let broker = Broker::bind(Wrong::StopsReading).await;
    let report = load_wrong(&broker, &format!("{WORDS} 0.5 --rate 2000 --payload 40000")).await.unwrap();
    let (due, sent, _) = counts(&report, Kind::Report);
    assert!(due == 1000 && sent < due && faults(&report, Cause::NotSent) == due - sent, "{report}");
}

#[tokio::test]
async fn what_waited_for_a_stalled_broker_leaves_when_it_reads_again() {
    let broker = Broker::bind(Wrong::ReadsLate).await;
    let words = "publish -n 1 --qos 0 --warm-up 0 --seconds 0.5 --drain 60 --rate 2000 --payload 40000";
    let report = load_wrong(&broker, words).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((counts(&report, Kind::Report), broker.messages()), ((1000, 1000, 0), 1000), "{report}");
}

#[tokio::test]
async fn messages_for_somebody_else_and_more_than_was_acknowledged_make_up_for_nothing() {
    for words in ["commands -n 2", "publish -n 2 --subscribers 1"] {
        let words = format!("{words} --rate 100 --warm-up 0 --seconds 0.5 --drain 0.5");
        let broker = Broker::bind(Wrong::Misroutes).await;
        let report = load_wrong(&broker, &words).await.unwrap();
        assert_eq!((faults(&report, Cause::Protocol), faults(&report, Cause::Lost)), (50, 50), "{report}");
        let broker = Broker::bind(Wrong::TradesLosses).await;
        let report = load_wrong(&broker, &words).await.unwrap();
        let lost = (faults(&report, Cause::Unacknowledged), faults(&report, Cause::Lost));
        assert_eq!(lost, (25, 25), "{report}");
    }
}

#[tokio::test]
async fn a_closed_loop_goes_on_after_a_refusal_and_opens_no_wider_than_the_broker_allows() {
    const WORDS: &str = "publish -n 1 --rate max --window 10 --warm-up 0 --seconds 0.5 --drain 0.1";
    let report = load_wrong(&Broker::bind(Wrong::RefusesMessages).await, WORDS).await.unwrap();
    assert!(faults(&report, Cause::MessageRefused) > 10, "{report}");
    let report = load_wrong(&Broker::bind(Wrong::AcksNothing).await, WORDS).await.unwrap();
    assert_eq!((counts(&report, Kind::Report).0, faults(&report, Cause::Unacknowledged)), (2, 2), "{report}");
}

#[tokio::test]
async fn a_grant_of_less_than_the_messages_need_is_no_grant() {
    let broker = Broker::bind(Wrong::GrantsLess).await;
    let error = load_wrong(&broker, "commands -n 1").await.unwrap_err();
    assert!(format!("{error:#}").contains("instead of a grant"), "{error:#}");
}

#[tokio::test]
async fn who_comes_back_to_a_broker_without_room_tries_again() {
    let broker = Broker::bind(Wrong::HasNoRoomAtFirst).await;
    let report = load_wrong(&broker, "reconnect -n 2").await.unwrap();
    assert!(report.is_clean() && report.connect.count == 2, "{report}");
    let retries: Vec<_> = report.retries.iter().map(|retry| (retry.cause, retry.count)).collect();
    assert_eq!(retries, [(Cause::Refused, 1), (Cause::Closed, 1)], "{report}");
    // Who comes for the first time does not.
    let broker = Broker::bind(Wrong::HasNoRoomAtFirst).await;
    let report = load_wrong(&broker, "connect -n 4").await.unwrap();
    assert_eq!((faults(&report, Cause::Refused), faults(&report, Cause::Closed)), (1, 1), "{report}");
}
