//! The process as somebody starts it: it becomes ready, tells what locks say once on each channel, and
//! ends when asked.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use latchline_notifier::migrations::SCHEMA;
use latchline_notifier::settings::{DEFAULT_TOML, Settings};
use latchline_notifier::sink::http::{HttpServer, Reply};
use latchline_notifier::sink::smtp::{MailServer, Tls};
use latchline_shared::kit::clock;
use latchline_shared::kit::config;
use latchline_shared::kit::kafka::development::DevelopmentKafka;
use latchline_shared::kit::kafka::publisher::Publisher;
use latchline_shared::kit::kafka::publisher::stream::Stream;
use latchline_shared::kit::postgres::testing;
use latchline_shared::kit::testing::eventually;
use latchline_shared::message::Qos;
use latchline_shared::record::{Publish, write_publish};
use secrecy::ExposeSecret;

const SOON: Duration = Duration::from_secs(60);
const LOCK: &str = "10083618796833171";
const STATE: &str = r#"{   "process_id": "7802441525528958",   "action": "unlock",   "battery": 83.4,   "lock_state": 1,   "version": 1.1,   "client_id": "10083618796833171" }"#;
const PREFIX: &str = "LATCHLINE_NOTIFIER";

const SEED: &str = r#"
[[users]]
id = "taro"
name = "Taro"
locale = "ja"
time_zone = "Asia/Tokyo"
contacts = [
    { channel = "email", address = "taro@example.com", verified = true },
    { channel = "sms", address = "+819012341234", verified = true },
]
locks = [{ client_id = "10083618796833171" }]
preferences = [{ channel = "sms" }]
"#;

/// A running process; killed if it does not end before.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(settings: &[(String, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_latchline-notifier"))
            .envs(settings.iter().cloned())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program was built");
        let log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, log }
    }

    /// Where it listens.
    fn address(&mut self) -> String {
        loop {
            let line = self.log.next().expect("it listens before it ends").expect("logs are text");
            let fields: serde_json::Value = serde_json::from_str(&line).expect("logs are json");
            if fields["message"] == "listening" {
                return fields["address"].as_str().expect("an address").to_owned();
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(ts: u64) -> Vec<u8> {
    let mut value = Vec::new();
    let (topic, payload) = (format!("devices/{LOCK}/state"), STATE.as_bytes());
    let (qos, node) = (Qos::AtLeastOnce, "n");
    write_publish(
        &mut value,
        &Publish { publisher: LOCK, username: "", topic: &topic, payload, qos, node, ts },
    );
    value
}

#[tokio::test]
async fn the_reference_result_is_one_mail_and_one_sms() {
    // The development Kafka makes no topics when asked over the network.
    let streams = ["message_state", "lock_alarm", "message_state.notifier.dlq", "lock_alarm.notifier.dlq"];
    let kafka = DevelopmentKafka::start(&streams.map(|stream| (stream, 3))).unwrap();
    let postgres = testing::database().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed.toml");
    std::fs::write(&seed, SEED).unwrap();
    let of = |name: &str, value: &str| (format!("{PREFIX}__{name}"), value.to_owned());
    let password = postgres.password.as_ref().map(|password| password.expose_secret().to_owned());
    let any = "127.0.0.1:0".parse().unwrap();
    let mail = MailServer::start(any, Tls::None, 10).await.unwrap();
    let gateway = HttpServer::start(any, 10).await.unwrap();
    gateway.answer(Reply::json(200, &serde_json::json!({ "id": "m1" })));
    let port = mail.address().port();
    let relays = format!(r#"[{{ name = "relay", host = "127.0.0.1", port = {port}, tls = "none" }}]"#);
    let gateways = format!(
        r#"[{{ name = "gateway", preset = "generic", url = "{}", secrets = {{ api_token = "t" }} }}]"#,
        gateway.url("/messages")
    );
    let settings = [
        of("EMAIL__RELAYS", &relays),
        of("EMAIL__FROM", "locks@example.com"),
        of("SMS__GATEWAYS", &gateways),
        of("HTTP__ADDRESS", "127.0.0.1:0"),
        of("POSTGRES__URL", postgres.url.expose_secret()),
        of("POSTGRES__PASSWORD", &password.unwrap_or_default()),
        of("CONSUMER__KAFKA__SERVERS", kafka.bootstrap()),
        of("SEED__FILE", seed.to_str().unwrap()),
        of("LOG__FORMAT", "json"),
    ];
    let mut process = Process::start(&settings);
    let address = process.address();
    let get = async |path: &str| {
        let response = reqwest::get(format!("http://{address}{path}")).await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    };
    eventually(SOON, "it is ready", async || get("/readyz").await.is_some_and(|(status, _)| status == 200))
        .await;

    let client: Settings = config::load(DEFAULT_TOML, None, PREFIX, settings.into_iter()).unwrap();
    let client = client.consumer.kafka.client_config("tests").unwrap();
    let publisher = Publisher::new("tests", client, Stream::like("message_state", "lock_alarm")).unwrap();
    for _ in 0..3 {
        publisher.publish(LOCK, &state(clock::unix_ms())).await.unwrap();
    }
    publisher.publish(LOCK, b"nonsense").await.unwrap();
    let pool = postgres.pool_in("tests", None, SCHEMA.name).unwrap();
    let count = async |from: &str| -> i64 {
        let sql = format!("select count(*) from {from}");
        pool.get().await.unwrap().query_one(&sql, &[]).await.unwrap().get(0)
    };
    let read = "consumer_offset where stream = 'message_state' and next_offset = 4";
    eventually(SOON, "all is read", async || count(read).await == 1).await;
    assert_eq!(count("notification").await, 2);
    assert_eq!(
        count("notification where event_type = 'unlocked' and process_id = '7802441525528958'").await,
        2
    );
    let (_, metrics) = get("/metrics").await.unwrap();
    for line in [
        "notifier_intake_records_total{kind=\"result\"} 1\n",
        "notifier_intake_records_total{kind=\"repeated\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    assert_eq!(get("/v1/notifications").await.unwrap().0, 401);
    let sent = "notification where status = 'sent' and attempts = 1";
    eventually(SOON, "both are sent", async || count(sent).await == 2).await;
    let (mails, messages) = (mail.mails(), gateway.requests());
    assert_eq!((mails.len(), messages.len()), (1, 1));
    assert_eq!(mails[0].to, ["taro@example.com"]);
    assert_eq!(messages[0].json()["to"], "+819012341234");

    // Whoever stops a service asks it to end.
    let id = process.child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    eventually(SOON, "it ends", async || process.child.try_wait().unwrap().is_some()).await;
    assert!(process.child.wait().unwrap().success());
}
