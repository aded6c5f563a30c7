//! Questions that tests, the demo and the tools ask of a running system.
//!
//! Each waits for a level with a deadline. An answer that cannot be had (a part is just being started
//! again) is waited for, too; whoever waits in vain is told what was there instead.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Api, Site};
use crate::sink::{KEEP_MAX, Message, Messages};

/// Longest wait for what takes seconds on a machine with nothing else to do.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between two questions: at first, and at last. Each question to the auditor is history.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How much of an answer stands in an error.
const EXCERPT_CHARS: usize = 3000;

/// An alarm, as the monitor shows it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Alarm {
    /// Its id.
    pub id: String,
    /// What is wrong.
    #[serde(rename = "type")]
    pub kind: String,
    /// `active`, `acknowledged`, `cleared` or `closed`.
    pub state: String,
    /// How bad that is.
    pub severity: String,
    /// How often it happened.
    pub count: u64,
}

/// What the monitor knows of a lock.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Present {
    /// Charge in percent.
    pub battery: Option<f64>,
    /// Name of its state.
    pub lock_state: String,
    /// When the broker saw its latest report.
    pub last_report_at: String,
    /// Whether it reports.
    pub online: bool,
}

/// An event of the history.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Entry {
    /// Which chain.
    pub chain_id: u64,
    /// Where in it.
    pub seq: u64,
    /// `command`, `attempt`, `result`, `change`, `finding`, …
    pub kind: String,
    /// What came of it.
    pub verdict: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// What is wrong besides.
    pub findings: Vec<String>,
    /// How bad that is.
    pub severity: String,
    /// Which command.
    pub process_id: Option<String>,
    /// What was commanded, or done.
    pub action: Option<String>,
    /// Who published.
    pub publisher: Option<String>,
    /// Who acknowledged.
    pub receiver: Option<String>,
    /// The state that was reported.
    pub lock_state: Option<String>,
    /// The battery then, in percent.
    pub battery: Option<f64>,
    /// The broker's id of the message.
    pub mid: Option<String>,
    /// When, by the broker's clock.
    pub occurred_at: String,
}

/// A notification.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Notification {
    /// Its id: of a mail's Message-ID, or of a request to a gateway.
    pub id: String,
    /// `email`, `sms` or `webhook`.
    pub channel: String,
    /// `unlocked`, …, or the type of an alarm.
    pub event_type: String,
    /// How far it is.
    pub status: String,
    /// Why it is not sent.
    pub reason: Option<String>,
    /// Who is told.
    pub user_id: String,
    /// Which command.
    pub process_id: Option<String>,
    /// Which alarm.
    pub alarm_id: Option<String>,
    /// Attempts to send it.
    pub attempt_count: u64,
}

/// What somebody was told of one event, by every channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// What the notifier has.
    pub notifications: Vec<Notification>,
    /// Mails that arrived.
    pub mails: Vec<Message>,
    /// SMS that arrived.
    pub texts: Vec<Message>,
}

/// Asks until the answer is wanted.
pub async fn until<T: Debug>(
    what: &str,
    deadline: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
    wanted: impl Fn(&T) -> bool,
) -> anyhow::Result<T> {
    let until = Instant::now() + deadline;
    let mut pause = PAUSE_FIRST;
    let mut last = "no answer".to_owned();
    loop {
        match timeout_at(until, ask()).await {
            Ok(Ok(answer)) if wanted(&answer) => return Ok(answer),
            Ok(Ok(answer)) => last = format!("{answer:?}"),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {}
        }
        if Instant::now() + pause >= until {
            let excerpt: String = last.chars().take(EXCERPT_CHARS).collect();
            bail!("not within {deadline:?}: {what}; instead: {excerpt}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Api {
    /// All rows of a list, page by page; `path` ends with `?` or a parameter.
    pub async fn all<T: DeserializeOwned>(&self, path: &str, list: &str) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.json(&format!("{path}&limit=1000{after}")).await?;
            let list: Vec<T> = serde_json::from_value(page[list].take()).with_context(|| path.to_owned())?;
            rows.extend(list);
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(rows),
            }
        }
    }
}

impl Site {
    /// Waits until every part does its job.
    pub async fn ready(&self, deadline: Duration) -> anyhow::Result<()> {
        let until_ready = async |name: &str, api: &Api, path: &str| {
            let ask = async || {
                let answer = api.get(path).await?;
                let (status, text) = (answer.status(), answer.text().await?);
                Ok((status, text))
            };
            let what = format!("the {name} at {} is ready", api.url);
            until(&what, deadline, ask, |(status, _)| status.is_success()).await
        };
        tokio::try_join!(
            until_ready("broker", &self.broker, "/readyz"),
            until_ready("auditor", &self.auditor, "/readyz"),
            until_ready("monitor", &self.monitor, "/readyz"),
            until_ready("notifier", &self.notifier, "/readyz"),
            until_ready("mail page", &self.mail, "/livez"),
            until_ready("SMS page", &self.sms, "/livez"),
        )?;
        Ok(())
    }

    /// What the monitor knows of a lock; none if it has not heard of it.
    pub async fn present(&self, lock: &str) -> anyhow::Result<Option<Present>> {
        let path = format!("/v1/locks/{lock}");
        let answer = self.monitor.get(&path).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.error_for_status()?.json().await.map(Some).context(path)
    }

    /// Waits for what the monitor knows of a lock.
    pub async fn presents(&self, lock: &str, wanted: impl Fn(&Present) -> bool) -> anyhow::Result<Present> {
        let what = format!("the monitor's state of {lock}");
        let ask = async || self.present(lock).await;
        let present = until(&what, DEADLINE, ask, |present| present.as_ref().is_some_and(&wanted)).await?;
        present.context(what)
    }

    /// All alarms of a lock.
    pub async fn alarms(&self, lock: &str) -> anyhow::Result<Vec<Alarm>> {
        self.monitor.all(&format!("/v1/alarms?client_id={lock}"), "alarms").await
    }

    /// Waits for the alarm of this type in this state.
    pub async fn alarm(&self, lock: &str, kind: &str, state: &str) -> anyhow::Result<Alarm> {
        let is = |alarm: &Alarm| alarm.kind == kind && alarm.state == state;
        let what = format!("alarm {kind} of {lock}, {state}");
        let ask = async || self.alarms(lock).await;
        let alarms = until(&what, DEADLINE, ask, |alarms| alarms.iter().any(is)).await?;
        alarms.into_iter().find(is).context(what)
    }

    /// The history of a lock, oldest first, but for who looked at it.
    pub async fn history(&self, lock: &str) -> anyhow::Result<Vec<Entry>> {
        let path = format!("/v1/audit/locks/{lock}/timeline?order=asc");
        let mut entries: Vec<Entry> = self.auditor.all(&path, "events").await?;
        entries.retain(|entry| entry.kind != "read");
        Ok(entries)
    }

    /// Waits for the entry of this kind (`command`, `attempt`, `result`) with this verdict.
    pub async fn judged(
        &self,
        lock: &str,
        process_id: &str,
        kind: &str,
        verdict: &str,
    ) -> anyhow::Result<Entry> {
        let is = |entry: &Entry| {
            entry.kind == kind
                && entry.process_id.as_deref() == Some(process_id)
                && entry.verdict.as_deref() == Some(verdict)
        };
        let what = format!("{kind} {process_id} of {lock}, {verdict}, in the history");
        let ask = async || self.history(lock).await;
        let entries = until(&what, DEADLINE, ask, |entries| entries.iter().any(is)).await?;
        entries.into_iter().find(is).context(what)
    }

    /// How a command went at a lock, by the auditor; none if it does not know the process.
    pub async fn process(&self, lock: &str, process_id: &str) -> anyhow::Result<Option<Value>> {
        let path = format!("/v1/audit/processes/{process_id}?client_id={lock}");
        let answer = self.auditor.get(&path).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut answer: Value = answer.error_for_status()?.json().await.context(path)?;
        Ok(answer["processes"].get_mut(0).map(Value::take))
    }

    /// Proves that the history is what was written, from the first to the last of these entries in
    /// each chain; the answer is the number of rows that were looked at.
    pub async fn verify(&self, entries: &[Entry]) -> anyhow::Result<u64> {
        let mut chains: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for Entry { chain_id, seq, .. } in entries {
            let (first, last) = chains.entry(*chain_id).or_insert((*seq, *seq));
            (*first, *last) = (*seq.min(first), *seq.max(last));
        }
        let mut rows = 0;
        for (chain, (first, last)) in chains {
            let mut from = first;
            while from <= last {
                let answer =
                    self.auditor.json(&format!("/v1/audit/verify?chain={chain}&from={from}")).await?;
                ensure!(answer["intact"] == true, "the history is not what was written: {answer}");
                let to = answer["to"].as_u64().filter(|to| *to >= from);
                from = to.with_context(|| format!("verify has not looked at row {from}: {answer}"))? + 1;
                rows += answer["rows"].as_u64().unwrap_or_default();
            }
        }
        Ok(rows)
    }

    /// The notifications about a lock.
    pub async fn notifications(&self, lock: &str) -> anyhow::Result<Vec<Notification>> {
        self.notifier.all(&format!("/v1/notifications?client_id={lock}"), "notifications").await
    }

    /// What arrived at a sink.
    pub async fn arrived(&self, sink: &Api) -> anyhow::Result<Messages> {
        sink.get(&format!("/api/messages?limit={KEEP_MAX}"))
            .await?
            .error_for_status()?
            .json()
            .await
            .context("messages of a sink")
    }

    /// What was told of a lock, as far as notifications are `wanted`, and what of it arrived.
    pub async fn told(&self, lock: &str, wanted: impl Fn(&Notification) -> bool) -> anyhow::Result<Told> {
        let mut notifications = self.notifications(lock).await?;
        notifications.retain(wanted);
        let of_these = |messages: Messages| -> Vec<Message> {
            let is = |message: &Message| notifications.iter().any(|known| known.id == message.id);
            messages.messages.into_iter().filter(is).collect()
        };
        let mails = of_these(self.arrived(&self.mail).await?);
        let texts = of_these(self.arrived(&self.sms).await?);
        Ok(Told { notifications, mails, texts })
    }

    /// Waits until the event is told by mail and SMS, and nothing about it is under way.
    pub async fn told_by_all(
        &self,
        lock: &str,
        what: &str,
        wanted: impl Fn(&Notification) -> bool,
    ) -> anyhow::Result<Told> {
        let what = format!("{what} of {lock} told by mail and SMS");
        until(&what, DEADLINE, async || self.told(lock, &wanted).await, Told::is_complete).await
    }
}

impl Told {
    /// Whether a mail and an SMS arrived, and every notification was sent.
    pub fn is_complete(&self) -> bool {
        let sent = |one: &Notification| ["sent", "delivered"].contains(&one.status.as_str());
        !self.mails.is_empty() && !self.texts.is_empty() && self.notifications.iter().all(sent)
    }

    /// Whether it was told once: one mail and one SMS.
    pub fn is_once(&self) -> bool {
        self.is_complete() && (self.mails.len(), self.texts.len(), self.notifications.len()) == (1, 1, 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_for_the_answer_through_errors() {
        let mut asked = 0;
        let ask = async || {
            asked += 1;
            if asked < 5 { bail!("not yet") } else { Ok(asked) }
        };
        let answer = until("the seventh", DEADLINE, ask, |answer| *answer == 7).await;
        assert_eq!(answer.unwrap(), 7);
    }

    #[tokio::test]
    async fn says_what_was_there_instead() {
        let check = async |last: anyhow::Result<u8>, expected: &str| {
            let mut last = Some(last);
            let ask = async || match last.take() {
                Some(answer) => answer,
                None => std::future::pending().await,
            };
            let error =
                until("a wonder", Duration::from_millis(50), ask, |_| false).await.unwrap_err().to_string();
            assert_eq!(error, format!("not within 50ms: a wonder; instead: {expected}"));
        };
        check(Ok(3), "3").await;
        check(Err(anyhow::anyhow!("refused").context("GET /")), "GET /: refused").await;
    }
}
