//! Commands: each acknowledged one reached its lock, each acknowledgement of a lock is in Kafka, and so
//! is each refusal. What the broker had in memory when it went away is excused, and counted.

use std::collections::{BTreeMap, BTreeSet};

use super::{Account, Broken, EXCUSED, Payload, Value, is_dup, of_stream, place};
use crate::checker::evidence::Evidence;
use crate::checker::ledger::{Book, Said, Sent};
use crate::stack::{COMMANDS, REJECTED, command_topic};

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    let (receipts, again) = receipts(account, book, evidence);
    let refused = refusals(account, book, evidence);
    let count = |said: fn(Said) -> bool| book.commands.values().filter(|sent| said(sent.said)).count() as u64;
    let (mut reached, mut lost_commands, mut lost_receipts) = (0, 0, 0);
    for (process_id, sent) in &book.commands {
        reached += u64::from(sent.received > 0);
        let what = || {
            let Sent { lock, at_ms, receipt_ms, .. } = sent;
            let outages = &book.outages;
            format!("{process_id} to {lock}, sent at {at_ms}, receipt at {receipt_ms:?}; {outages:?}")
        };
        match sent.receipt_ms {
            None if sent.said == Said::Acked => match book.end_that_lost(sent) {
                Some(end_ms) => {
                    lost_commands += 1;
                    account.excuse(end_ms, |loss| &mut loss.commands);
                }
                None => account.violate(Broken::LostCommand, what()),
            },
            Some(receipt_ms) if !receipts.contains_key(process_id.as_str()) => {
                match book.end_that_lost_receipt(&sent.lock, receipt_ms) {
                    Some(end_ms) => {
                        lost_receipts += 1;
                        account.excuse(end_ms, |loss| &mut loss.receipts);
                    }
                    None => account.violate(Broken::LostReceipt, what()),
                }
            }
            Some(_) | None => {}
        }
        if matches!(sent.said, Said::Refused(_)) && !refused.contains(process_id) {
            account.violate(Broken::LostRefusal, what());
        }
    }
    account.count("commands sent", book.commands.len() as u64);
    account.count("commands acknowledged", count(|said| said == Said::Acked));
    account.count("commands refused", count(|said| matches!(said, Said::Refused(_))));
    account.count("commands that reached their locks", reached);
    account.count(EXCUSED[0], lost_commands);
    account.count("receipts of locks stored", receipts.len() as u64);
    account.count("receipts stored again, which say so", again);
    account.count(EXCUSED[1], lost_receipts);
}

/// The processes of the commands whose receipt is stored; how many receipts are there again.
fn receipts<'a>(account: &mut Account, book: &'a Book, evidence: &Evidence) -> (BTreeMap<&'a str, u32>, u64) {
    let mut receipts = BTreeMap::new();
    let mut again = 0;
    for record in of_stream(evidence, COMMANDS) {
        let value = Value::of(record);
        let payload = value.as_ref().and_then(Value::payload).unwrap_or_default();
        let process_id = Payload::of(&payload).process_id;
        let at = place(record);
        let Some((process_id, sent)) = book.commands.get_key_value(&process_id) else {
            account.violate(Broken::UnknownRecord, format!("{at}: nobody has sent this"));
            continue;
        };
        let addressed = value
            .is_some_and(|value| value.client_id == sent.lock && value.topic == command_topic(&sent.lock));
        if sent.payload != payload || !addressed {
            account.violate(Broken::AlteredRecord, format!("{at}: {process_id} was sent otherwise"));
        }
        if sent.receipt_ms.is_none() {
            account
                .violate(Broken::UnknownRecord, format!("{at}: the lock has not acknowledged {process_id}"));
        }
        let count: &mut u32 = receipts.entry(process_id.as_str()).or_default();
        *count += 1;
        if *count > 1 && !is_dup(record) {
            let why = format!("{at}: the receipt of {process_id} is there already");
            account.violate(Broken::UnexplainedDuplicate, why);
        } else if *count > 1 && *count > sent.received {
            let received = sent.received;
            let why = format!("{at}: {count} receipts of {process_id}, and the lock has given {received}");
            account.violate(Broken::UnexplainedDuplicate, why);
        } else if *count > 1 {
            again += 1;
        }
    }
    (receipts, again)
}

/// The processes of the commands whose refusal is stored.
fn refusals(account: &mut Account, book: &Book, evidence: &Evidence) -> BTreeSet<String> {
    let mut refused = BTreeSet::new();
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    let mut absorbed = 0;
    for record in of_stream(evidence, REJECTED) {
        let Some(value) = Value::of(record) else {
            account.violate(Broken::UnknownRecord, format!("{}: it cannot be read", place(record)));
            continue;
        };
        let process_id = Payload::of(&value.payload().unwrap_or_default()).process_id;
        let at = place(record);
        let count = times.entry(process_id.clone()).or_default();
        *count += 1;
        match book.commands.get(&process_id) {
            Some(sent) if *count > sent.times => {
                let why = format!("{at}: {process_id} is refused {count} times, and was sent {}", sent.times);
                account.violate(Broken::UnexplainedDuplicate, why);
            }
            Some(_) => {}
            None => account.violate(Broken::UnknownRecord, format!("{at}: nobody has sent this")),
        }
        // Acknowledged with success, and not delivered again.
        if value.reason == "retransmit" {
            absorbed += 1;
        } else {
            refused.insert(process_id);
        }
    }
    account.count("repetitions of commands absorbed", absorbed);
    refused
}
