//! The account: each acknowledged message, by what the services say of it over HTTP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latchline_shared::command::Action;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Reported, Seen, Sent, locked, nth};
use crate::site::ask::{Entry, Notification};
use crate::site::{Api, Site};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What arrived at the sinks. They remember nothing across a restart, so they are watched.
pub(super) struct Arrivals {
    seen: Arc<Mutex<Pages>>,
    watching: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Pages {
    /// When the messages of a notification arrived.
    arrived: HashMap<String, Vec<u64>>,
    /// How many the sinks counted.
    counts: [u64; 2],
    /// How often a sink began anew.
    restarts: u64,
}

impl Pages {
    fn take(&mut self, sink: usize, count: u64, messages: impl Iterator<Item = (String, u64)>) {
        self.restarts += u64::from(count < self.counts[sink]);
        self.counts[sink] = count;
        for (id, at_ms) in messages {
            let times = self.arrived.entry(id).or_default();
            if !times.contains(&at_ms) {
                times.push(at_ms);
            }
        }
    }
}

impl Arrivals {
    pub(super) fn watch(site: &Site) -> Self {
        let seen = Arc::new(Mutex::new(Pages::default()));
        let (site, pages) = (site.clone(), Arc::clone(&seen));
        let watching = tokio::spawn(async move {
            loop {
                look(&site, &pages).await;
                sleep(LOOK_EVERY).await;
            }
        });
        Self { seen, watching }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn look(site: &Site, pages: &Mutex<Pages>) {
    for (sink, api) in [&site.mail, &site.sms].into_iter().enumerate() {
        // One that is away is asked again.
        if let Ok(messages) = site.arrived(api).await {
            let each = messages.messages.into_iter().map(|message| (message.id, message.at_ms));
            locked(pages).take(sink, messages.count, each);
        }
    }
}

/// Everything that was sent, and what there is of it.
pub(super) struct Books<'a> {
    pub(super) site: &'a Site,
    /// How many reports of each reporter were acknowledged.
    pub(super) reports: HashMap<String, u64>,
    pub(super) commands: Vec<Sent>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) sent_again: u64,
    pub(super) arrivals: Arrivals,
}

impl Books<'_> {
    /// What is not as it should be, yet.
    pub(super) async fn wrong(&mut self) -> anyhow::Result<Vec<String>> {
        look(self.site, &self.arrivals.seen).await;
        let mut wrong = Vec::new();
        for (lock, count) in &self.reports {
            let history = self.site.history(lock).await?;
            wrong.extend(missing_report(lock, *count, &history));
            if let Some(last) = count.checked_sub(1) {
                wrong.extend(self.present(lock, nth(last)).await?);
            }
        }
        let mut locks: Vec<&str> = self.commands.iter().map(|sent| sent.lock.as_str()).collect();
        locks.sort_unstable();
        locks.dedup();
        for lock in locks {
            let latest = locked(&self.seen).latest(lock)?;
            wrong.extend(self.present(lock, latest).await?);
            let history = self.site.history(lock).await?;
            let notifications = self.site.notifications(lock).await?;
            for sent in self.commands.iter().filter(|sent| sent.lock == lock) {
                wrong.extend(missing_command(sent, &history));
                if sent.acted && sent.action == Action::Unlock {
                    wrong.extend(self.untold(sent, &notifications).await?);
                }
            }
        }
        Ok(wrong)
    }

    async fn present(&self, lock: &str, expected: Reported) -> anyhow::Result<Option<String>> {
        let name = if expected.lock_state == 1 { "unlocked" } else { "locked" };
        let present = self.site.present(lock).await?;
        let is = present.as_ref().is_some_and(|present| {
            present.lock_state == name
                && present.battery.is_some_and(|battery| (battery - expected.battery).abs() < 0.01)
        });
        Ok((!is).then(|| format!("{lock} last said {expected:?}, the monitor says {present:?}")))
    }

    /// By one mail and one SMS; by more only if an attempt was ambiguous.
    async fn untold(&self, sent: &Sent, notifications: &[Notification]) -> anyhow::Result<Vec<String>> {
        let mut wrong = Vec::new();
        for channel in ["email", "sms"] {
            let of_this = notifications.iter().filter(|one| {
                one.event_type == "unlocked"
                    && one.channel == channel
                    && one.process_id.as_deref() == Some(&sent.process_id)
            });
            let [one] = of_this.collect::<Vec<_>>()[..] else {
                let count = notifications.len();
                wrong.push(format!(
                    "{} of {} is not one {channel} of {count} messages",
                    sent.process_id, sent.lock
                ));
                continue;
            };
            let (arrived, restarts) = {
                let pages = locked(&self.arrivals.seen);
                (pages.arrived.get(&one.id).map_or(0, Vec::len), pages.restarts)
            };
            let is_sent = ["sent", "delivered"].contains(&one.status.as_str());
            let fits = match arrived {
                1 => true,
                // A sink that began anew forgot what had just arrived.
                0 => restarts > 0,
                _ => is_ambiguous(&self.site.notifier, &one.id).await?,
            };
            if !(is_sent && fits) {
                wrong.push(format!("{channel} {} of {} arrived {arrived} times: {one:?}", one.id, sent.lock));
            }
        }
        Ok(wrong)
    }

    pub(super) fn summary(&self) -> Vec<String> {
        let count = |is: fn(&Sent) -> bool| self.commands.iter().filter(|sent| is(sent)).count();
        let pages = locked(&self.arrivals.seen);
        let arrived: usize = pages.arrived.values().map(Vec::len).sum();
        vec![
            format!("reports acknowledged        {}", self.reports.values().sum::<u64>()),
            format!("commands sent               {}", self.commands.len()),
            format!("  acknowledged              {}", count(|sent| sent.taken)),
            format!("  acted on by their locks   {}", count(|sent| sent.acted)),
            format!("  in doubt                  {}", count(|sent| sent.is_in_doubt())),
            format!("messages sent again         {}", self.sent_again),
            format!("mails and SMS that arrived  {arrived}"),
            format!("sinks that began anew       {}", pages.restarts),
        ]
    }
}

async fn is_ambiguous(notifier: &Api, id: &str) -> anyhow::Result<bool> {
    let notification = notifier.json(&format!("/v1/notifications/{id}")).await?;
    let attempts = notification["attempts"].as_array();
    Ok(attempts.is_some_and(|all| all.iter().any(|attempt| attempt["outcome"] == "ambiguous")))
}

impl Sent {
    /// Whether nobody can know that the lock's acknowledgement arrived.
    fn is_in_doubt(&self) -> bool {
        !self.taken || !self.acted || self.disturbed
    }
}

/// Whether a command is in the history as often as it should be, and its result.
fn missing_command(sent: &Sent, history: &[Entry]) -> Option<String> {
    let count = |kind: &str| {
        let is = |entry: &&Entry| {
            entry.kind == kind
                && entry.process_id.as_deref() == Some(&sent.process_id)
                && entry.verdict.as_deref() == Some("ok")
        };
        history.iter().filter(is).count()
    };
    let (commands, results) = (count("command"), count("result"));
    let fits = commands <= 1
        && (commands == 1 || sent.is_in_doubt())
        && results <= 1
        && (results == 1 || !sent.acted);
    (!fits).then(|| format!("{sent:?} is {commands} times in the history, its result {results} times"))
}

/// The first report that is not in the history, or not in its place. The first of all is no change.
fn missing_report(lock: &str, count: u64, history: &[Entry]) -> Option<String> {
    let changes: Vec<&Entry> = history.iter().filter(|entry| entry.kind == "change").collect();
    let mut changes = changes.into_iter().peekable();
    changes.next_if(|first| says(first, nth(0)));
    for n in 1..count {
        match changes.next() {
            Some(change) if says(change, nth(n)) => {}
            other => return Some(format!("report {n} of {count} of {lock} is not next, but {other:?}")),
        }
    }
    changes.next().map(|other| format!("{lock} never sent {other:?} after {count} reports"))
}

fn says(entry: &Entry, reported: Reported) -> bool {
    let name = if reported.lock_state == 1 { "unlocked" } else { "locked" };
    entry.lock_state.as_deref() == Some(name)
        && entry.battery.is_some_and(|battery| (battery - reported.battery).abs() < 0.01)
}
