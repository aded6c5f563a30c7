//! The account: each acknowledged message, by what the services say of it over HTTP.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use latchline_shared::command::Action;
use latchline_shared::kit::clock;
use serde::Deserialize;
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
    /// What is known of each sink.
    sinks: [Sink; 2],
}

#[derive(Debug, Default)]
struct Sink {
    /// How many it counted.
    count: u64,
    /// When it was last looked at, in Unix milliseconds.
    looked_ms: u64,
    /// From the last look before it began anew to the first one after: what it was given meanwhile,
    /// nobody may have seen.
    blind: Vec<RangeInclusive<u64>>,
}

impl Pages {
    /// What a look has shown that took so long.
    fn take(
        &mut self,
        sink: usize,
        looked: RangeInclusive<u64>,
        count: u64,
        messages: impl Iterator<Item = (String, u64)>,
    ) {
        let known = &mut self.sinks[sink];
        if count < known.count {
            known.blind.push(known.looked_ms..=*looked.end());
        }
        (known.count, known.looked_ms) = (count, *looked.start());
        for (id, at_ms) in messages {
            let times = self.arrived.entry(id).or_default();
            if !times.contains(&at_ms) {
                times.push(at_ms);
            }
        }
    }

    /// Whether this sink may have forgotten what it was given then before anybody looked.
    fn excuses(&self, sink: usize, given: &RangeInclusive<u64>) -> bool {
        let overlaps =
            |blind: &RangeInclusive<u64>| given.start() <= blind.end() && blind.start() <= given.end();
        self.sinks[sink].blind.iter().any(overlaps)
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
        let begun = clock::unix_ms();
        if let Ok(messages) = site.arrived(api).await {
            let looked = begun..=clock::unix_ms();
            let each = messages.messages.into_iter().map(|message| (message.id, message.at_ms));
            locked(pages).take(sink, looked, messages.count, each);
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
        let mut wrong: Vec<String> = too_few(&self.commands).into_iter().collect();
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
        for (sink, channel) in ["email", "sms"].into_iter().enumerate() {
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
            let arrived = locked(&self.arrivals.seen).arrived.get(&one.id).map_or(0, Vec::len);
            let is_sent = ["sent", "delivered"].contains(&one.status.as_str());
            let fits = match arrived {
                1 => true,
                // A sink that began anew forgot what had just arrived.
                0 => {
                    let given = given(&attempts(&self.site.notifier, &one.id).await?);
                    given.is_some_and(|given| locked(&self.arrivals.seen).excuses(sink, &given))
                }
                _ => {
                    let attempts = attempts(&self.site.notifier, &one.id).await?;
                    attempts.iter().any(|attempt| attempt.outcome == "ambiguous")
                }
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
        let restarts: usize = pages.sinks.iter().map(|sink| sink.blind.len()).sum();
        let arrived: usize = pages.arrived.values().map(Vec::len).sum();
        vec![
            format!("reports acknowledged        {}", self.reports.values().sum::<u64>()),
            format!("commands sent               {}", self.commands.len()),
            format!("  acknowledged              {}", count(|sent| sent.taken)),
            format!("  acted on by their locks   {}", count(|sent| sent.acted)),
            format!("  in doubt                  {}", count(|sent| sent.is_in_doubt())),
            format!("messages sent again         {}", self.sent_again),
            format!("mails and SMS that arrived  {arrived}"),
            format!("sinks that began anew       {restarts}"),
        ]
    }
}

/// An attempt to send a notification.
#[derive(Debug, Deserialize)]
struct Attempt {
    started_at: String,
    /// How long it took, once it has ended.
    #[serde(default)]
    ms: u64,
    outcome: String,
}

async fn attempts(notifier: &Api, id: &str) -> anyhow::Result<Vec<Attempt>> {
    let mut notification = notifier.json(&format!("/v1/notifications/{id}")).await?;
    serde_json::from_value(notification["attempts"].take()).context("attempts of a notification")
}

/// When a notification was accepted, in Unix milliseconds.
fn given(attempts: &[Attempt]) -> Option<RangeInclusive<u64>> {
    let accepted = attempts.iter().find(|attempt| attempt.outcome == "accepted")?;
    let started: Timestamp = accepted.started_at.parse().ok()?;
    let started = u64::try_from(started.as_millisecond()).ok()?;
    Some(started..=started + accepted.ms)
}

/// Locks that act on next to nothing prove nothing, whatever the reason.
fn too_few(commands: &[Sent]) -> Option<String> {
    let acted = commands.iter().filter(|sent| sent.acted).count();
    (acted == 0 || acted * 2 < commands.len())
        .then(|| format!("locks acted on {acted} of {} commands", commands.len()))
}

impl Sent {
    /// Whether nobody can know that the lock's acknowledgement arrived. That the lock has not acted is
    /// no excuse: an acknowledged command is lost only with the broker's memory, and then the lock's
    /// connection goes, too.
    fn is_in_doubt(&self) -> bool {
        !self.taken || self.disturbed
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
    let is_lost = !sent.acted && !sent.is_in_doubt();
    (!fits || is_lost)
        .then(|| format!("{sent:?} is {commands} times in the history, its result {results} times"))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(taken: bool, acted: bool, disturbed: bool) -> Sent {
        let (lock, process_id) = ("a".to_owned(), "1".to_owned());
        Sent { lock, process_id, action: Action::Unlock, taken, acted, disturbed }
    }

    fn history(kinds: &[&str]) -> Vec<Entry> {
        let entry = |kind: &&str| {
            let entry = json!({
                "chain_id": 1, "seq": 1, "kind": kind, "verdict": "ok", "findings": [], "severity": "info",
                "process_id": "1", "occurred_at": "2026-01-01T00:00:00.000Z",
            });
            serde_json::from_value(entry).unwrap()
        };
        kinds.iter().map(entry).collect()
    }

    #[test]
    fn a_command_that_is_lost_is_found() {
        let (yes, no) = (true, false);
        for (taken, acted, disturbed, kinds, is_right) in [
            (yes, yes, no, &["command", "result"][..], yes),
            (yes, no, no, &[], no),
            (yes, no, no, &["command"], no),
            (yes, no, yes, &[], yes),
            (yes, no, yes, &["command"], yes),
            (no, no, no, &[], yes),
            (yes, yes, no, &["result"], no),
            (yes, yes, yes, &["result"], yes),
            (yes, yes, no, &["command"], no),
            (yes, yes, yes, &["command"], no),
            (yes, yes, no, &["command", "command", "result"], no),
            (yes, yes, no, &["command", "result", "result"], no),
        ] {
            let wrong = missing_command(&sent(taken, acted, disturbed), &history(kinds));
            assert_eq!(wrong.is_none(), is_right, "{taken} {acted} {disturbed} {kinds:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_run_in_which_little_was_done_proves_nothing() {
        let run = |acted: usize, of: usize| {
            let all: Vec<Sent> = (0..of).map(|n| sent(true, n < acted, true)).collect();
            too_few(&all).is_none()
        };
        assert!(!run(0, 0));
        assert!(!run(0, 9));
        assert!(!run(4, 9));
        assert!(run(5, 9));
        assert!(run(1, 1));
    }

    #[test]
    fn only_a_restart_of_its_own_sink_at_that_time_excuses_a_message() {
        let mut pages = Pages::default();
        let one = |id: &str| std::iter::once((id.to_owned(), 950));
        for sink in [0, 1] {
            pages.take(sink, 1_000..=1_010, 7, one("seen"));
        }
        // The first one begins anew.
        pages.take(0, 1_500..=1_510, 0, std::iter::empty());
        pages.take(1, 1_500..=1_510, 8, std::iter::empty());
        pages.take(0, 2_000..=2_010, 1, one("seen"));
        assert_eq!(pages.arrived["seen"], [950], "what was seen before has arrived, once");
        for (sink, given, excused) in [
            (0, 1_200..=1_210, true),
            (0, 990..=1_005, true),
            (0, 900..=999, false),
            (0, 1_511..=1_600, false),
            (1, 1_200..=1_210, false),
        ] {
            assert_eq!(pages.excuses(sink, &given), excused, "{sink} {given:?}");
        }
    }

    #[test]
    fn a_message_was_given_when_it_was_accepted() {
        let attempt = |started_at: &str, ms: u64, outcome: &str| Attempt {
            started_at: started_at.to_owned(),
            ms,
            outcome: outcome.to_owned(),
        };
        let first = || attempt("1970-01-01T00:00:01.000Z", 5, "unavailable");
        assert_eq!(given(&[first()]), None);
        assert_eq!(given(&[first(), attempt("1970-01-01T00:00:03Z", 12, "accepted")]), Some(3_000..=3_012));
    }
}
