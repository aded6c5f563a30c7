//! The script of the demo. Every step says what happens, does it, and waits until Kafka, the owner,
//! the monitor and the auditor have what the step promises.
//!
//! [`commands`]: good and bad commands. [`trouble`]: what goes wrong with locks. [`outages`]: what goes
//! wrong with the system itself.

mod commands;
mod outages;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use latchline_shared::command::{Action, ShortSign};
use latchline_shared::message::Protocol;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::demo::cast::{DOORS, Door, FRONT_DOOR, GARAGE, OWNER};
use crate::demo::figures::{Figures, Span};
use crate::demo::screen::{self, heading, proved, say};
use crate::demo::seen::Seen;
use crate::kafka::reader::{From, Reader, Record};
use crate::lock::run::{Settings, run};
use crate::lock::state::Change;
use crate::mqtt;
use crate::operator::{Command, Operator, Report};
use crate::show;
use crate::sink::Message;
use crate::site::Site;
use crate::site::ask::Notification;
use crate::stack::whole::Whole;
use crate::stack::{ALARMS, COMMANDS, FINDINGS, REJECTED, STATES, state_topic};

/// Longest wait for what takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);
/// Reports whose acknowledgement is timed.
const TIMED_REPORTS: usize = 5;

/// What the story is played with.
pub struct Story<'a> {
    whole: &'a mut Whole,
    site: Site,
    records: Seen<Record>,
    mails: Seen<Message>,
    texts: Seen<Message>,
    operator: Operator,
    doors: Vec<(Door, mpsc::Sender<Change>)>,
    figures: Figures,
    begun_at: Instant,
}

impl<'a> Story<'a> {
    /// Connects the locks and the operator; `begun_at` is when the demo was started.
    pub async fn begin(whole: &'a mut Whole, interval: Duration, begun_at: Instant) -> anyhow::Result<Self> {
        let site = whole.site()?;
        for door in DOORS.iter().chain([&GARAGE]) {
            let path = format!("/v1/locks/{}/members/{OWNER}", door.id);
            let named = serde_json::json!({ "lock_name": door.name });
            site.notifier.put(&path, &named).await?.error_for_status()?;
        }
        // From now on: a Kafka that was there already may hold much.
        let streams = [STATES, COMMANDS, REJECTED, FINDINGS, ALARMS];
        let reader = Reader::open(&whole.stack.kafka.bootstrap(), &streams, From::End).await?;
        let records = Seen::records(reader, screen::record);
        let mails = Seen::messages(site.mail.clone(), screen::mail);
        let texts = Seen::messages(site.sms.clone(), screen::sms);
        heading("1  Locks connect and report");
        say("Each publishes its state over MQTT (QoS 1) now, on every change and at intervals.\n\
             The broker acknowledges a report when Kafka has stored it, and not before.\n\
             The lines that follow are records in Kafka: stream/partition@offset, and what is in it.");
        let doors = DOORS.iter().zip(1..).map(|(door, seed)| (*door, lock(&site, door, seed, interval)));
        let doors: Vec<_> = doors.collect();
        let operator = Operator::connect(operator(&site)?, "+").await?;
        let figures = Figures::default();
        let mut story = Self { whole, site, records, mails, texts, operator, doors, figures, begun_at };
        story.reports().await?;
        Ok(story)
    }

    /// Plays it to its end, and goes on to show what comes.
    pub async fn play(&mut self) -> anyhow::Result<()> {
        let unlock = Command::sign(&self.site.secrets.master, FRONT_DOOR.id, Action::Unlock)?;
        self.unlock(&unlock).await?;
        self.forge().await?;
        self.replay(&unlock).await?;
        self.battery().await?;
        self.jam().await?;
        self.mail_server_goes_away().await?;
        self.kafka_stands_still().await?;
        self.history().await?;
        self.summary();
        Ok(())
    }

    async fn reports(&mut self) -> anyhow::Result<()> {
        for door in DOORS {
            let from = |record: &Record| record.stream == STATES && record.key.as_deref() == Some(door.id);
            self.records.find(0, &format!("the first report of {}", door.name), DEADLINE, from).await?;
        }
        proved("four locks, four records");
        say(&format!("A fifth one, the garage's, reports {TIMED_REPORTS} times, and its wait is timed:"));
        let (mut client, _) = self.whole.stack.connect_lock(GARAGE.id, Protocol::V3).await?;
        for _ in 0..TIMED_REPORTS {
            let sent_at = Instant::now();
            let id = client.publish(&state_topic(GARAGE.id), garage_report(GARAGE.battery_percent)).await?;
            client.acked(id, DEADLINE).await?;
            self.figures.add(Span::Acknowledged, sent_at.elapsed());
        }
        let theirs = |record: &Record| reported(record, GARAGE.id).is_some();
        self.records.count_to(TIMED_REPORTS, "its reports", DEADLINE, theirs).await?;
        proved("acknowledged each time, and each is in Kafka");
        Ok(())
    }

    fn summary(&self) {
        heading("What was seen");
        let stream = |stream: &str| self.records.count_of(|record| record.stream == stream);
        let raised =
            self.records.count_of(|r| r.stream == ALARMS && change(r).is_some_and(|c| c == "raised"));
        say(&format!(
            "{:>4} reports of locks, acknowledged when Kafka had them\n\
             {:>4} commands taken by a lock, {} refused by the broker's guard\n\
             {:>4} findings of the auditor, {raised} alarms of the monitor\n\
             {:>4} mails and {} SMS to the owner\n",
            stream(STATES),
            stream(COMMANDS),
            stream(REJECTED),
            stream(FINDINGS),
            self.mails.count(),
            self.texts.count(),
        ));
        say(&self.figures.table());
    }

    /// Waits until the owner was told by mail and by SMS, once each, and both were shown.
    async fn told(
        &mut self,
        lock: &Door,
        what: &str,
        happened_at_ms: u64,
        wanted: impl Fn(&Notification) -> bool,
    ) -> anyhow::Result<()> {
        let told = self.site.told_by_all(lock.id, what, wanted).await?;
        ensure!(told.is_once(), "{what} of {} was not told once: {told:?}", lock.name);
        for (seen, messages, span) in
            [(&self.mails, told.mails, Span::Mailed), (&self.texts, told.texts, Span::Texted)]
        {
            for message in messages {
                let (_, at_ms) = seen.find(0, what, DEADLINE, |one| one.id == message.id).await?;
                self.figures.add_between(span, happened_at_ms, at_ms);
            }
        }
        Ok(())
    }

    /// Waits for an alarm: in Kafka, and open at the monitor.
    async fn raised(&mut self, lock: &Door, kind: &str, span: Span, since_ms: u64) -> anyhow::Result<()> {
        let is = |record: &Record| {
            record.stream == ALARMS
                && record.key.as_deref() == Some(lock.id)
                && record.json().is_ok_and(|value| value["type"] == kind && value["change"] == "raised")
        };
        let (_, at_ms) = self.records.find(0, &format!("the alarm {kind}"), DEADLINE, is).await?;
        self.figures.add_between(span, since_ms, at_ms);
        let alarm = self.site.alarm(lock.id, kind, "active").await?;
        say(&format!("The monitor: {kind} of {}, {}, {}", lock.name, alarm.severity, alarm.state));
        Ok(())
    }

    fn change(&self, lock: &Door) -> anyhow::Result<&mpsc::Sender<Change>> {
        let door = self.doors.iter().find(|(door, _)| door.id == lock.id);
        door.map(|(_, changes)| changes).context("a lock that does not play")
    }
}

fn garage_report(battery_percent: f64) -> String {
    format!(
        r#"{{"process_id":"1","action":"report","battery":{battery_percent:.1},"lock_state":0,"version":1.1,"client_id":"{}"}}"#,
        GARAGE.id
    )
}

fn operator(site: &Site) -> anyhow::Result<mqtt::Options> {
    site.secrets.operator_options(site.mqtt.port(), Protocol::V5)
}

fn lock(site: &Site, door: &Door, seed: u64, interval: Duration) -> mpsc::Sender<Change> {
    let (changes, receiver) = mpsc::channel(1);
    let settings = Settings {
        mqtt: mqtt::Options {
            host: site.mqtt.ip().to_string(),
            port: site.mqtt.port(),
            client_id: door.id.to_owned(),
            login: Some(site.secrets.lock_login(door.id)),
            protocol: Protocol::V3,
            session: mqtt::Session::Kept,
        },
        key: site.secrets.master.command_key(door.id),
        short_sign: ShortSign::Refused,
        interval,
        jitter: interval / 5,
        battery_percent: door.battery_percent,
        drain_percent_per_day: 0.0,
        jammed: false,
        seed,
        nonces: Default::default(),
        nonce_file: None,
        observer: Arc::new(|_, _| {}),
    };
    // Ends with its sender.
    tokio::spawn(run(settings, receiver));
    changes
}

fn payload(record: &Record) -> Option<String> {
    show::payload(&record.json().ok()?)
}

/// The report in a record, if it is one of this lock.
fn reported(record: &Record, id: &str) -> Option<Report> {
    let of_lock = record.stream == STATES && record.key.as_deref() == Some(id);
    of_lock.then(|| payload(record)).flatten().and_then(|text| serde_json::from_str(&text).ok())
}

/// When the broker saw what is in a record, in Unix milliseconds.
fn happened_at_ms(record: &Record) -> anyhow::Result<u64> {
    record.json()?["ts"].as_u64().context("a record without time")
}

fn change(record: &Record) -> Option<String> {
    record.json().ok()?["change"].as_str().map(str::to_owned)
}
