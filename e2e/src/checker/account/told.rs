//! Who was told: each result, and each change of an alarm that somebody should be told of, once by mail
//! and once by SMS, of what it is and of its lock. Nothing else is told. More arrive only if an attempt is
//! on record of which nobody knows how it ended, and only what is on record arrives. That a lock was
//! locked is told to nobody, since nobody has asked for that by name (docs/notifier.md).

use std::collections::{BTreeMap, BTreeSet};

use super::findings::Alarm;
use super::{Account, Broken, Payload, of_stream};
use crate::checker::evidence::{Evidence, Notification};
use crate::checker::ledger::Book;
use crate::stack::ALARMS;

const CHANNELS: [&str; 2] = ["email", "sms"];
/// What is told of a result: these locks do what they are told.
const UNLOCKED: &str = "unlocked";

/// What somebody is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    event_type: String,
    lock: String,
    /// The process, or the alarm and the number of its change.
    what: String,
}

/// How often somebody was told of something, by channel.
type Told = BTreeMap<(About, String), u64>;

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    let mut told = Told::new();
    let (mut ambiguous, mut again, mut of_alarms) = (0, 0, 0);
    for one in &evidence.notifications {
        ambiguous += u64::from(one.ambiguous);
        of_alarms += u64::from(one.alarm.is_some());
        *told.entry((About::of(one), one.channel.clone())).or_default() += 1;
        again += u64::from(arrived(account, evidence, one).saturating_sub(1));
    }
    let known: BTreeSet<&str> = evidence.notifications.iter().map(|one| one.id.as_str()).collect();
    for id in evidence.arrivals.keys().filter(|id| !known.contains(id.as_str())) {
        account.violate(Broken::UnknownMessage, format!("{id:?} arrived"));
    }
    let (unlocks, alarms) = (unlocks(book), alarms(evidence));
    for (about, must_be_told) in unlocks.iter().chain(&alarms) {
        once(account, &mut told, about, *must_be_told);
    }
    for ((about, channel), times) in told {
        account.violate(Broken::ToldTooOften, format!("{times} notifications by {channel} of {about:?}"));
    }
    account.count("unlocks to be told, by mail and by SMS", unlocks.len() as u64);
    account.count("alarms to be told, by mail and by SMS", alarms.len() as u64);
    account.count("notifications of results", evidence.notifications.len() as u64 - of_alarms);
    account.count("notifications of alarms", of_alarms);
    account.count("messages that arrived", evidence.arrivals.values().map(|times| u64::from(*times)).sum());
    account.count("attempts that are on record as ambiguous", ambiguous);
    account.count("messages that arrived again after these", again);
}

impl About {
    fn of(one: &Notification) -> Self {
        let Notification { event_type, lock, process_id, alarm, .. } = one;
        let of_alarm = |(id, no): &(String, i32)| format!("{id}/{no}");
        let what = alarm.as_ref().map_or_else(|| process_id.clone(), of_alarm);
        Self { event_type: event_type.clone(), lock: lock.clone(), what }
    }
}

/// The results of unlocks, and whether each must be told: one that was not acknowledged may be.
fn unlocks(book: &Book) -> BTreeMap<About, bool> {
    let mut unlocks = BTreeMap::new();
    for (lock, page) in &book.locks {
        for report in page.reports.iter().filter(|report| report.result_of.is_some()) {
            let result = Payload::of(&report.payload);
            if result.action == "unlock" {
                let (event_type, lock) = (UNLOCKED.to_owned(), lock.clone());
                unlocks.insert(About { event_type, lock, what: result.process_id }, report.acked);
            }
        }
    }
    unlocks
}

/// The changes of alarms that somebody should be told of, each once however often it is in its stream.
fn alarms(evidence: &Evidence) -> BTreeMap<About, bool> {
    // What cannot be read is found by whoever looks at what raises alarms.
    let alarms = of_stream(evidence, ALARMS).filter_map(|record| Alarm::of(record).ok());
    let about = |Alarm { client_id: lock, kind: event_type, alarm_id, no, .. }| {
        (About { event_type, lock, what: format!("{alarm_id}/{no}") }, true)
    };
    alarms.filter(|alarm| alarm.notify).map(about).collect()
}

/// Takes what was told of it: that is one notification on each channel.
fn once(account: &mut Account, told: &mut Told, about: &About, must_be_told: bool) {
    for channel in CHANNELS {
        let times = told.remove(&(about.clone(), channel.to_owned())).unwrap_or(0);
        let what = match times {
            0 if must_be_told => Broken::Untold,
            0 | 1 => continue,
            _ => Broken::ToldTooOften,
        };
        account.violate(what, format!("{times} notifications by {channel} of {about:?}"));
    }
}

/// How often a notification arrived.
fn arrived(account: &mut Account, evidence: &Evidence, one: &Notification) -> u32 {
    let times = evidence.arrivals.get(&one.id).copied().unwrap_or(0);
    let what =
        || format!("{} by {} of {} {} ({})", one.event_type, one.channel, one.lock, one.process_id, one.id);
    match one.status.as_str() {
        "sent" | "delivered" if times == 0 => {
            account.violate(Broken::Untold, format!("{} is `{}` and did not arrive", what(), one.status));
        }
        "sent" | "delivered" => {}
        other => account.violate(Broken::Untold, format!("{} is `{other}`", what())),
    }
    if times > 1 + one.ambiguous {
        let why = format!("{} arrived {times} times, {} attempts were ambiguous", what(), one.ambiguous);
        account.violate(Broken::ToldTooOften, why);
    }
    times
}
