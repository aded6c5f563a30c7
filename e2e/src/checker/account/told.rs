//! Who was told: each result once by mail and once by SMS. More arrive only if an attempt is on record
//! of which nobody knows how it ended, and only what is on record arrives. That a lock was locked is told
//! to nobody, since nobody has asked for that by name (docs/notifier.md).

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Broken, Payload};
use crate::checker::evidence::{Evidence, Notification};
use crate::checker::ledger::Book;

const CHANNELS: [&str; 2] = ["email", "sms"];

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    let mut results: BTreeMap<(&str, &str), Vec<&Notification>> = BTreeMap::new();
    let (mut ambiguous, mut again, mut others) = (0, 0, 0);
    for one in &evidence.notifications {
        ambiguous += u64::from(one.ambiguous);
        if one.process_id.is_empty() {
            others += 1;
        } else {
            results.entry((&one.process_id, &one.channel)).or_default().push(one);
        }
        again += u64::from(arrived(account, evidence, one).saturating_sub(1));
    }
    let known: BTreeSet<&str> = evidence.notifications.iter().map(|one| one.id.as_str()).collect();
    for id in evidence.arrivals.keys().filter(|id| !known.contains(id.as_str())) {
        account.violate(Broken::UnknownMessage, format!("{id:?} arrived"));
    }
    let reports = book.locks.values().flat_map(|page| &page.reports);
    let acked = reports.filter(|report| report.acked && report.result_of.is_some());
    let mut expected = 0;
    for report in acked {
        let result = Payload::of(&report.payload);
        let once = usize::from(result.action == "unlock");
        expected += once as u64;
        for channel in CHANNELS {
            let told = results.get(&(result.process_id.as_str(), channel)).map_or(0, Vec::len);
            if told != once {
                let what = if told < once { Broken::Untold } else { Broken::ToldTooOften };
                account.violate(what, format!("{told} notifications by {channel} of {}", result.process_id));
            }
        }
    }
    account.count("unlocks to be told, by mail and by SMS", expected);
    account.count("notifications of results", results.values().map(|all| all.len() as u64).sum());
    account.count("notifications of alarms", others);
    account.count("messages that arrived", evidence.arrivals.values().map(|times| u64::from(*times)).sum());
    account.count("attempts that are on record as ambiguous", ambiguous);
    account.count("messages that arrived again after these", again);
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
