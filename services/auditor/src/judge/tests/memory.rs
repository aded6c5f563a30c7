//! Takes the place of the database: histories are cut into batches at random, and must come out the
//! same.

use std::collections::{BTreeMap, HashMap};

use latchline_shared::command::Action;
use latchline_shared::kit::kafka::consumer::Decoded;
use proptest::prelude::*;

use super::acts::{Act, LANE, LOCK, START_MS, command, records, settings, state};
use crate::judge::known::{Clock, Key, Known, LastState, Wants};
use crate::judge::{Decision, Settings, decide};
use crate::process::Process;
use crate::record::Item;
use crate::verdict::FirstUse;

/// What the database does: keeps all, hands out what is wanted.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Memory {
    pub(super) nonces: BTreeMap<Key, FirstUse>,
    pub(super) processes: BTreeMap<Key, Process>,
    pub(super) locks: HashMap<String, LastState>,
    pub(super) clock: Clock,
}

impl Memory {
    pub(super) fn judge(&mut self, settings: &Settings, batch: &[Decoded<Item>]) -> Decision {
        let now_ms = i64::MAX;
        let wants = Wants::of(batch, now_ms);
        let mut known = Known::default();
        known.clock = self.clock;
        for key in &wants.nonces {
            if let Some(first) = self.nonces.get(key) {
                known.nonces.load(key.clone(), first.clone());
            }
        }
        for (key, process) in &self.processes {
            let is_due = process.deadline_at_ms.is_some_and(|deadline| deadline < wants.due_before_ms);
            if is_due || wants.processes.contains(key) {
                known.load_process(LANE, key.clone(), process.clone());
            }
        }
        for lock in &wants.locks {
            if let Some(last) = self.locks.get(lock) {
                known.locks.load(lock.clone(), *last);
            }
        }
        let decision = decide(&mut known, LANE, settings, batch, now_ms);
        self.take(&known);
        decision
    }

    fn take(&mut self, known: &Known) {
        let cloned = |(key, first): (&Key, &FirstUse)| (key.clone(), first.clone());
        self.nonces.extend(known.nonces.changes().into_iter().map(cloned));
        let cloned = |(key, process): (&Key, &Process)| (key.clone(), process.clone());
        self.processes.extend(known.processes.changes().into_iter().map(cloned));
        self.locks.extend(known.locks.changes().into_iter().map(|(lock, last)| (lock.clone(), *last)));
        self.clock = known.clock;
    }
}

/// Acts of three locks, two processes each, over a few minutes, many of them wrong.
fn any_act() -> impl Strategy<Value = Act> {
    let name = prop::sample::select(vec![LOCK, "2", "eve"]);
    let signed = (0..3_u8, 0..2_u8, 0..3_u8, 0..4_i64).prop_map(|(lock, process, nonce, at)| {
        let lock = [LOCK, "2", "3"][usize::from(lock)];
        let action = if process == 0 { Action::Unlock } else { Action::Lock };
        command(lock, action, &format!("p{process}"), &format!("nonce00{nonce}"), START_MS + at * 40_000)
    });
    let payload = prop_oneof![4 => signed, 1 => Just("nonsense".to_owned())];
    let deliver = (name.clone(), name.clone(), payload.clone(), 0..4_u8, any::<bool>()).prop_map(
        |(receiver, from, payload, mid, dup)| Act::Deliver {
            receiver: receiver.to_owned(),
            from: from.to_owned(),
            lock: LOCK.to_owned(),
            payload,
            mid,
            dup,
        },
    );
    let reject = (name.clone(), payload).prop_map(|(from, payload)| Act::Reject {
        from: from.to_owned(),
        lock: LOCK.to_owned(),
        payload,
        reason: "replay",
    });
    let report = (name, 0..3_u8, 0..3_i64).prop_map(|(publisher, process, lock_state)| {
        let action = if process == 1 { "lock" } else { "unlock" };
        let Act::State { payload, .. } = state(&format!("p{process}"), action, lock_state) else {
            unreachable!("a state is a state")
        };
        Act::State { publisher: publisher.to_owned(), lock: LOCK.to_owned(), payload }
    });
    prop_oneof![4 => deliver, 1 => reject, 4 => report]
}

proptest! {
    #[test]
    fn how_batches_are_cut_makes_no_difference(
        acts in prop::collection::vec((0..20_000_i64, any_act()), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut at = 0;
        let timed: Vec<(i64, Act)> = acts.into_iter().map(|(step, act)| { at += step; (at, act) }).collect();
        let all = records(&timed);
        let mut one_by_one = Memory::default();
        let mut expected = Vec::new();
        for record in &all {
            expected.extend(one_by_one.judge(&settings(), std::slice::from_ref(record)).events);
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(all.len())).chain([all.len()]).collect();
        ends.sort_unstable();
        let mut memory = Memory::default();
        let mut events = Vec::new();
        let mut start = 0;
        for end in ends {
            events.extend(memory.judge(&settings(), &all[start..end]).events);
            start = end;
        }
        prop_assert_eq!(events, expected);
        prop_assert_eq!(memory, one_by_one);
    }
}
