//! Reports and signed commands all the time, while parts are restarted; then an account over HTTP.
//!
//! Reporters are bare clients: each report is acknowledged before the next one, and turns the bolt, so
//! that each is a `change` in the history. Commanded locks are simulated ones, in this process, so it
//! is known on what they acted.
//!
//! Non-guarantee: a lock's PUBACK is not answered. When the connection of a lock ends while it answers
//! a command, the record of that delivery may be missing; such commands are counted as in doubt, and
//! may be there once or not at all. What locks have done is in the history all the same. A command that
//! waits in the broker's memory is lost at its restart: one that was acknowledged and never reached its
//! lock is in doubt if that lock's connection ended meanwhile, or was not up yet; otherwise it is lost.

mod account;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use latchline_shared::command::Action;
use latchline_shared::message::Protocol;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::account::{Arrivals, Books};
use super::publisher::{Publisher, Said};
use super::{Lock, lock_id};
use crate::feed::Report;
use crate::lock::run::Happening;
use crate::operator::Command;
use crate::random;
use crate::site::Site;
use crate::site::ask::until;
use crate::stack::secrets::OPERATOR;
use crate::stack::{command_topic, state_topic};

/// Said once reports are acknowledged and commands acted on.
pub const BEGUN: &str = "reports and commands are on their way";

const REPORTERS: usize = 4;
const LOCKS: usize = 4;
const REPORT_EVERY: Duration = Duration::from_millis(250);
const COMMAND_EVERY: Duration = Duration::from_millis(400);
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest wait for a lock that has a command.
const ACT_DEADLINE: Duration = Duration::from_secs(20);
/// A PUBACK of a lock arrives within so long, or with the connection gone not at all.
const PUBACK_TIME: Duration = Duration::from_secs(2);
/// A lock that is connected has subscribed within so long.
const SUBSCRIBE_TIME: Duration = Duration::from_secs(2);
/// Longest wait for the first report and the first command.
const BEGIN_DEADLINE: Duration = Duration::from_secs(120);
/// Between two lines about how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What the simulated locks did.
#[derive(Debug, Default)]
struct Seen {
    /// On which commands they acted, by process id.
    acted: HashMap<String, Instant>,
    /// How many reports of each reporter were acknowledged.
    acknowledged: HashMap<String, u64>,
    /// The latest report of each.
    latest: HashMap<String, Reported>,
    /// When each was last connected.
    connected: HashMap<String, Instant>,
    /// When each was last disconnected.
    disconnected: HashMap<String, Instant>,
}

/// What a report says of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
struct Reported {
    battery: f64,
    lock_state: u64,
}

/// A command that was sent.
#[derive(Debug, Clone)]
struct Sent {
    lock: String,
    process_id: String,
    action: Action,
    /// The broker acknowledged it.
    taken: bool,
    /// The lock acted on it.
    acted: bool,
    /// The lock's connection ended meanwhile, or was just being made.
    disturbed: bool,
}

/// Runs until `stop`, then accounts for everything; what cannot be accounted for within `settle` is an
/// error. `say` is told that it has begun, once each reporter has an acknowledgement and a lock has
/// acted on a command, and from then on how far it is. The answer is the account in words.
pub async fn run(
    site: &Site,
    say: &mut dyn FnMut(&str),
    stop: impl Future<Output = ()>,
    settle: Duration,
) -> anyhow::Result<Vec<String>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let locks = (0..LOCKS).map(|n| lock(site, n, &seen)).collect::<anyhow::Result<Vec<Lock>>>()?;
    for lock in &locks {
        site.presents(&lock.id, |lock| lock.lock_state == "locked").await?;
    }
    let ended = CancellationToken::new();
    let mut reporters = JoinSet::new();
    for n in 0..REPORTERS {
        reporters.spawn(report(reporter(site, n)?, Arc::clone(&seen), ended.clone()));
    }
    let ids: Vec<String> = locks.iter().map(|lock| lock.id.clone()).collect();
    let commander = tokio::spawn(command(site.clone(), ids, Arc::clone(&seen), ended.clone()));
    let arrivals = Arrivals::watch(site);
    tokio::select! {
        () = stop => {}
        // Nothing of it ends by itself but by an error.
        Some(early) = reporters.join_next() => bail!("a reporter has ended: {early:?}"),
        Err(late) = progress(&seen, say) => return Err(late),
    }
    ended.cancel();
    let mut reports = HashMap::new();
    let mut sent_again = 0;
    while let Some(done) = reporters.join_next().await {
        let (id, count, again) = done??;
        reports.insert(id, count);
        sent_again += again;
    }
    let (commands, again) = commander.await??;
    let mut books = Books { site, reports, commands, seen, sent_again: sent_again + again, arrivals };
    let what = "every acknowledged message is accounted for";
    let wrong = until(what, settle, async || books.wrong().await, Vec::is_empty).await;
    let mut lines = books.summary();
    match wrong {
        Ok(_) => Ok(lines),
        Err(error) => {
            lines.push(format!("{error:#}"));
            bail!("{}", lines.join("\n"))
        }
    }
}

/// Says that it has begun, then how far it is; it ends only if it does not begin.
async fn progress(seen: &Mutex<Seen>, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let has_begun = |seen: &Seen| seen.acknowledged.len() == REPORTERS && !seen.acted.is_empty();
    let begun = async {
        while !has_begun(&locked(seen)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(BEGIN_DEADLINE, begun).await.context("no report was acknowledged, or no lock acted")?;
    say(BEGUN);
    loop {
        let (reports, acted) = {
            let seen = locked(seen);
            (seen.acknowledged.values().sum::<u64>(), seen.acted.len())
        };
        say(&format!("so far {reports} reports, {acted} commands"));
        sleep(PROGRESS_EVERY).await;
    }
}

fn protocol(n: usize) -> Protocol {
    if n.is_multiple_of(2) { Protocol::V3 } else { Protocol::V5 }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock(site: &Site, n: usize, seen: &Arc<Mutex<Seen>>) -> anyhow::Result<Lock> {
    let seen = Arc::clone(seen);
    let observer = move |id: &str, happening: &Happening| {
        let mut seen = locked(&seen);
        match happening {
            Happening::Acted(command, _) => {
                seen.acted.insert(command.process_id.clone(), Instant::now());
            }
            Happening::Reported(payload) => {
                if let Ok(reported) = serde_json::from_str(payload) {
                    seen.latest.insert(id.to_owned(), reported);
                }
            }
            Happening::Disconnected(_) => {
                seen.disconnected.insert(id.to_owned(), Instant::now());
            }
            Happening::Connected => {
                seen.connected.insert(id.to_owned(), Instant::now());
            }
            Happening::Unsubscribed(_) | Happening::Withheld(_) | Happening::Refused(_) => {}
        }
    };
    Lock::start(site, protocol(n), 90.0, INTERVAL, Arc::new(observer))
}

fn reporter(site: &Site, n: usize) -> anyhow::Result<(String, Publisher)> {
    let id = lock_id()?;
    let login = site.secrets.lock_login(&id);
    Ok((id.clone(), Publisher::new(site.mqtt, protocol(n), id, login)))
}

/// What the `n`-th report of a reporter says: never what the one before said, and never a fall of the
/// battery that would be an alarm.
fn nth(n: u64) -> Reported {
    Reported { battery: 50.0 + (n % 100) as f64 / 10.0, lock_state: n % 2 }
}

/// Reports one after the other until it ends; the answer is how many were acknowledged.
async fn report(
    (id, mut publisher): (String, Publisher),
    seen: Arc<Mutex<Seen>>,
    ended: CancellationToken,
) -> anyhow::Result<(String, u64, u64)> {
    let topic = state_topic(&id);
    let mut count = 0;
    while !ended.is_cancelled() {
        let Reported { battery, lock_state } = nth(count);
        let lock_state = i64::try_from(lock_state)?;
        let report = Report { battery: battery as f32, lock_state, ..Report::of(&id, 0) };
        match publisher.publish(&topic, report.payload()).await? {
            Said::Taken => {
                count += 1;
                locked(&seen).acknowledged.insert(id.clone(), count);
            }
            Said::Refused(code) => bail!("a report of {id} is refused: {code:#04x}"),
        }
        sleep(REPORT_EVERY).await;
    }
    Ok((id, count, publisher.sent_again))
}

/// Commands one lock after the other until it ends.
async fn command(
    site: Site,
    locks: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    ended: CancellationToken,
) -> anyhow::Result<(Vec<Sent>, u64)> {
    let id = format!("{OPERATOR}-{}", random::process_id()?);
    let login = (OPERATOR.to_owned(), site.secrets.operator.clone());
    let mut publisher = Publisher::new(site.mqtt, Protocol::V5, id, login);
    let mut commands = Vec::new();
    for (n, lock) in locks.iter().cycle().enumerate() {
        if ended.is_cancelled() {
            break;
        }
        let action = if (n / locks.len()).is_multiple_of(2) { Action::Unlock } else { Action::Lock };
        let begun = Instant::now();
        let command = Command::sign(&site.secrets.master, lock, action)?;
        let said = publisher.publish(&command_topic(lock), command.payload.clone()).await?;
        let acted = acted(&seen, &command.process_id, said == Said::Taken).await;
        let disturbed = !locked(&seen).is_steady(lock, begun);
        let (lock, process_id) = (command.lock, command.process_id);
        commands.push(Sent { lock, process_id, action, taken: said == Said::Taken, acted, disturbed });
        sleep(COMMAND_EVERY).await;
    }
    // The connections of the last ones are looked at once more.
    sleep(PUBACK_TIME).await;
    let seen = locked(&seen);
    for sent in &mut commands {
        let acted_at = seen.acted.get(&sent.process_id);
        sent.acted = acted_at.is_some();
        let gone_at = seen.disconnected.get(&sent.lock);
        sent.disturbed |= matches!((acted_at, gone_at), (Some(acted), Some(gone))
            if gone >= acted && *gone < *acted + PUBACK_TIME);
    }
    Ok((commands, publisher.sent_again))
}

/// Waits until the lock has acted, if it is going to.
async fn acted(seen: &Mutex<Seen>, process_id: &str, taken: bool) -> bool {
    let until = Instant::now() + if taken { ACT_DEADLINE } else { Duration::ZERO };
    loop {
        if locked(seen).acted.contains_key(process_id) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

impl Seen {
    /// Whether the lock's connection is the one that it had well before `since`.
    fn is_steady(&self, lock: &str, since: Instant) -> bool {
        let gone = self.disconnected.get(lock);
        self.connected.get(lock).is_some_and(|connected| {
            *connected + SUBSCRIBE_TIME < since && gone.is_none_or(|gone| gone < connected)
        })
    }

    fn latest(&self, lock: &str) -> anyhow::Result<Reported> {
        self.latest.get(lock).copied().with_context(|| format!("{lock} has never reported"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_report_is_a_change_and_no_alarm() {
        for n in 0..1_000 {
            let (this, next) = (nth(n), nth(n + 1));
            assert_ne!(this.lock_state, next.lock_state);
            assert!(this.battery - next.battery < 10.0, "{n}: a fall that is an alarm");
        }
        assert_ne!(nth(10).battery, nth(12).battery, "a report that is missing is seen");
    }

    #[test]
    fn a_connection_that_stayed_is_no_excuse() {
        let zero = Instant::now();
        let at = |s: u64| zero + Duration::from_secs(s);
        let is_steady = |connected: Option<u64>, gone: Option<u64>| {
            let times = |s: Option<u64>| s.map(|s| ("a".to_owned(), at(s))).into_iter().collect();
            let seen = Seen { connected: times(connected), disconnected: times(gone), ..Seen::default() };
            seen.is_steady("a", at(10))
        };
        assert!(is_steady(Some(1), None));
        assert!(is_steady(Some(5), Some(4)), "it was away before");
        assert!(!is_steady(None, None), "it never came");
        assert!(!is_steady(Some(1), Some(11)), "it went meanwhile");
        assert!(!is_steady(Some(1), Some(9)), "it was away");
        assert!(!is_steady(Some(9), Some(8)), "it was just coming");
        assert!(!is_steady(Some(12), Some(11)), "it went and came meanwhile");
    }
}
