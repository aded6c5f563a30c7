//! The services: each has read everything and put nothing aside, and the monitor knows what each lock
//! said last.

use std::collections::BTreeMap;

use super::{Account, Broken, Payload, Value, is_dup, of_stream};
use crate::checker::evidence::Evidence;
use crate::checker::ledger::Book;
use crate::kafka::reader::Record;
use crate::stack::STATES;

/// End of the name of a stream of records that a service could not use.
const DEAD_LETTERS: &str = ".dlq";

pub(super) fn check(account: &mut Account, book: &Book, evidence: &Evidence) {
    for offset in &evidence.offsets {
        let end = evidence.ends.get(&offset.place).copied().unwrap_or(0);
        if offset.next != end {
            let (stream, partition) = &offset.place;
            let why =
                format!("the {} is at {} of {end} in {stream}/{partition}", offset.service, offset.next);
            account.violate(Broken::Unread, why);
        }
    }
    for ((stream, _), end) in evidence.ends.iter().filter(|((stream, _), _)| stream.ends_with(DEAD_LETTERS)) {
        if *end > 0 {
            account.violate(Broken::Unread, format!("{end} records were put aside in {stream}"));
        }
    }
    account.count("partitions read to their ends", evidence.offsets.len() as u64);
    states(account, book, evidence);
}

fn states(account: &mut Account, book: &Book, evidence: &Evidence) {
    let mut records: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in of_stream(evidence, STATES) {
        records.entry(record.key.as_deref().unwrap_or_default()).or_default().push(record);
    }
    let mut known = 0;
    for (id, records) in records {
        let Some(last) = last(&records) else { continue };
        let state = evidence.states.get(id).copied().unwrap_or_default();
        let is_right = (last.0..=last.1).contains(&state.last_offset)
            && state.lock_state == Some(last.2.lock_state)
            && state.battery.is_some_and(|battery| (battery - last.2.battery).abs() < 0.05);
        known += u64::from(is_right);
        if !is_right {
            account.violate(Broken::WrongState, format!("{id} is {state:?}, and said {last:?}"));
        }
    }
    account.count("locks that the monitor knows as they are", known);
    for id in evidence.states.keys().filter(|id| !book.locks.contains_key(*id)) {
        account.violate(Broken::WrongState, format!("{id} was never there"));
    }
}

/// The offsets from which the last state may be known, and what it says. A repetition of what was said
/// last is none to the monitor.
fn last(records: &[&Record]) -> Option<(i64, i64, Payload)> {
    let (last, before) = records.split_last()?;
    let payload = |record: &Record| Value::of(record).and_then(|value| value.payload());
    let bytes = payload(last)?;
    let mut first = last.offset;
    let mut repeats = is_dup(last);
    for record in before.iter().rev() {
        if !repeats || payload(record).as_ref() != Some(&bytes) {
            break;
        }
        first = record.offset;
        repeats = is_dup(record);
    }
    Some((first, last.offset, Payload::of(&bytes)))
}
