//! The bridge's own numbers: `seq` counts the records of one hook from one connection. In streams whose
//! key is that connection's lock they are in one partition, so nothing may be missing but the end, and
//! none comes again: only a bridge that replaces its producer stores a record twice, which is an error
//! in the broker's log.

use std::collections::BTreeMap;

use super::{Account, Broken, Value, of_stream, place};
use crate::checker::evidence::Evidence;
use crate::kafka::reader::Record;
use crate::stack::{COMMANDS, STATES};

pub(super) fn check(account: &mut Account, evidence: &Evidence) {
    let mut connections = 0;
    for stream in [STATES, COMMANDS] {
        // By client: its present connection, and the last number of it.
        let mut clients: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for record in of_stream(evidence, stream) {
            let client = Value::of(record).map(|value| value.client_id).unwrap_or_default();
            let Some((session, n)) = numbers(record) else {
                account.violate(Broken::Gap, format!("{}: no seq", place(record)));
                continue;
            };
            let last = clients.entry(client).or_insert((0, 0));
            if session > last.0 {
                connections += 1;
                *last = (session, 0);
            }
            step(account, record, last, (session, n));
        }
    }
    account.count("connections with records, each numbered without gap", connections);
}

fn step(account: &mut Account, record: &Record, last: &mut (u64, u64), (session, n): (u64, u64)) {
    let at = || format!("{}: seq {session}-{n} after {}-{}", place(record), last.0, last.1);
    if session == last.0 && n == last.1 + 1 {
        last.1 = n;
    } else if session == last.0 && n > last.1 {
        account.violate(Broken::Gap, at());
        last.1 = n;
    } else {
        account.violate(Broken::UnexplainedDuplicate, at());
    }
}

fn numbers(record: &Record) -> Option<(u64, u64)> {
    let (session, n) = record.header("seq").split_once('-')?;
    Some((session.parse().ok()?, n.parse().ok()?))
}
