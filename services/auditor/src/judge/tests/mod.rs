//! What becomes of records, case by case.

pub(crate) mod acts;
mod memory;

use latchline_shared::command::Action;

use super::known::LastState;
use super::*;
use acts::{Act, LOCK, START_MS, command, delivered, records, settings, short, state, state_with};
use memory::Memory;

/// Judges all acts as one batch.
fn judged(settings: &Settings, acts: &[(i64, Act)]) -> (Vec<Event>, Memory) {
    let mut memory = Memory::default();
    let decision = memory.judge(settings, &records(acts));
    (decision.events, memory)
}

fn check(acts: &[(i64, Act)], expected: &[&str]) {
    let (events, _) = judged(&settings(), acts);
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), expected, "{acts:?}");
}

fn unlock(process_id: &str, nonce: &str, after_ms: i64) -> String {
    command(LOCK, Action::Unlock, process_id, nonce, START_MS + after_ms)
}

#[test]
fn a_command_and_its_result_are_joined() {
    let acts = [(0, delivered(&unlock("p1", "nonce001", 0), 1)), (900, state("p1", "unlock", 1))];
    let (events, memory) = judged(&settings(), &acts);
    assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["command ok", "result ok"]);
    let command = &events[0];
    assert_eq!((command.publisher.as_deref(), command.receiver.as_deref()), (Some("backend"), Some(LOCK)));
    assert_eq!((command.nonce_str.as_deref(), command.sign_bits), (Some("nonce001"), Some(256)));
    assert_eq!((command.cmd_ts, command.skew_ms), (Some(START_MS / 1_000), Some(0)));
    let result = &events[1];
    assert_eq!((result.lock_state.as_deref(), result.lock_state_raw), (Some("unlocked"), Some(1)));
    assert_eq!((result.battery, result.process_id.as_deref()), (Some(83.4), Some("p1")));
    let process = &memory.processes[&(LOCK.to_owned(), "p1".to_owned())];
    assert_eq!((process.delivered_at_ms, process.reported_at_ms), (Some(START_MS), Some(START_MS + 900)));
    assert_eq!((process.outcome.unwrap().name(), process.deadline_at_ms), ("ok", None));
}

#[test]
fn sixty_heartbeats_are_one_result() {
    let mut acts = vec![(0, delivered(&unlock("p1", "nonce001", 0), 1))];
    acts.extend((0..60).map(|minute| (900 + minute * 60_000, state("p1", "unlock", 1))));
    let mut memory = Memory::default();
    let decision = memory.judge(&settings(), &records(&acts));
    assert_eq!(decision.events.iter().map(short).collect::<Vec<_>>(), ["command ok", "result ok"]);
    assert_eq!(decision.quiet, Quiet { heartbeats: 59, late: 0 });
}

#[test]
fn outcomes_follow_the_locks_word_or_its_state() {
    for (action, lock_state, more, expected) in [
        (Action::Unlock, 1, "", "result ok"),
        (Action::Unlock, 6, "", "result ok"),
        (Action::Unlock, 0, "", "result failed"),
        (Action::Unlock, 2, "", "result failed"),
        (Action::Lock, 0, "", "result ok"),
        (Action::Lock, 1, "", "result failed"),
        (Action::Unlatch, 6, "", "result ok"),
        (Action::Unlatch, 1, "", "result failed"),
        (Action::Unlock, 1, r#""result":"ok","#, "result ok"),
        (Action::Unlock, 0, r#""result":"ok","#, "result ok result_mismatch"),
        (Action::Unlock, 0, r#""result":"denied","error":101,"#, "result denied"),
        (Action::Unlock, 1, r#""result":"failed","#, "result failed"),
        (Action::Unlock, 1, r#""result":"maybe","#, "result ok invalid_report"),
        (Action::Unlock, 77, "", "result failed unknown_lock_state"),
    ] {
        let payload = command(LOCK, action, "p1", "nonce001", START_MS);
        let report = state_with("p1", action.name(), lock_state, more);
        check(&[(0, delivered(&payload, 1)), (900, report)], &["command ok", expected]);
    }
}

#[test]
fn a_result_of_another_action_does_not_match() {
    let payload = unlock("p1", "nonce001", 0);
    check(
        &[(0, delivered(&payload, 1)), (900, state("p1", "lock", 0))],
        &["command ok", "result ok result_mismatch"],
    );
    check(
        &[(0, state("p1", "lock", 0)), (900, delivered(&payload, 1))],
        &["result ok", "command ok result_mismatch"],
    );
}

#[test]
fn the_other_half_is_missed_after_its_deadline() {
    let payload = unlock("p1", "nonce001", 0);
    let later = |after_ms| (after_ms, delivered(&unlock("p2", "nonce002", after_ms), 2));
    let heartbeat = |after_ms| (after_ms, state("", "", 0));
    let command = (0, delivered(&payload, 1));
    let result = |after_ms| (after_ms, state("p1", "unlock", 0));
    let no_result = "finding no_result";
    // At the deadline it is in time; both streams must have passed it before it is missed.
    check(&[command.clone(), result(30_000), later(30_001)], &["command ok", "result failed", "command ok"]);
    check(&[command.clone(), later(30_000), result(30_000)], &["command ok", "command ok", "result failed"]);
    check(&[command.clone(), heartbeat(30_001)], &["command ok", "change"]);
    check(&[command.clone(), later(30_001)], &["command ok", "command ok"]);
    check(
        &[command.clone(), heartbeat(30_001), later(40_000)],
        &["command ok", "change", no_result, "command ok"],
    );
    // A late result is the result all the same.
    check(
        &[command, later(40_000), result(40_000)],
        &["command ok", "command ok", no_result, "result failed"],
    );
    // The state may come before the record of the acknowledgement.
    check(&[result(0), (100, delivered(&payload, 1))], &["result failed", "command ok"]);
    check(
        &[result(0), later(30_001), heartbeat(30_001)],
        &["result failed", "command ok", "finding orphan_result"],
    );
}

#[test]
fn what_is_missed_is_told_once_with_its_evidence() {
    let acts = [
        (0, delivered(&unlock("p1", "nonce001", 0), 1)),
        (40_000, state("", "", 0)),
        (40_000, delivered(&unlock("p2", "nonce002", 40_000), 2)),
        (50_000, delivered(&unlock("p3", "nonce003", 50_000), 3)),
    ];
    let (events, _) = judged(&settings(), &acts);
    let missed: Vec<&Event> = events.iter().filter(|event| short(event) == "finding no_result").collect();
    assert_eq!(missed.len(), 1);
    let event = missed[0];
    assert_eq!((event.occurred_at_ms, event.place.stream.as_str()), (START_MS + 30_000, ""));
    assert_eq!((event.process_id.as_deref(), event.severity), (Some("p1"), Severity::Warning));
    let evidence: serde_json::Value = serde_json::from_slice(&event.raw).unwrap();
    assert_eq!(evidence["delivered_at_ms"], START_MS);
}

#[test]
fn a_replay_in_the_same_batch_is_seen() {
    let payload = unlock("p1", "nonce001", 0);
    let again = |from: &str, mid, dup| Act::Deliver {
        receiver: LOCK.to_owned(),
        from: from.to_owned(),
        lock: LOCK.to_owned(),
        payload: payload.clone(),
        mid,
        dup,
    };
    check(
        &[
            (0, delivered(&payload, 1)),
            (10, again("backend", 1, false)),
            (20, again("backend", 2, true)),
            (30, again("backend", 3, false)),
            (40, again("eve", 4, true)),
            (50, delivered(&unlock("p2", "nonce001", 0), 5)),
            (60, delivered(&unlock("p1", "nonce002", 0), 6)),
        ],
        &[
            "command ok",
            "command duplicate",
            "command retransmit",
            "command replay",
            "command replay",
            "command nonce_conflict",
            "command ok process_id_reuse",
        ],
    );
}

#[test]
fn who_listens_in_is_found_and_does_not_start_the_wait() {
    let payload = unlock("p1", "nonce001", 0);
    let heard = |receiver: &str| Act::Deliver {
        receiver: receiver.to_owned(),
        from: "backend".to_owned(),
        lock: LOCK.to_owned(),
        payload: payload.clone(),
        mid: 1,
        dup: false,
    };
    let acts = [(0, heard("eve")), (20_000, heard(LOCK)), (40_000, state("", "", 0))];
    let (events, memory) = judged(&settings(), &acts);
    assert_eq!(
        events.iter().map(short).collect::<Vec<_>>(),
        ["command ok unexpected_receiver", "command duplicate", "change"]
    );
    assert_eq!(events[0].severity, Severity::Critical);
    let process = &memory.processes[&(LOCK.to_owned(), "p1".to_owned())];
    assert_eq!(process.delivered_at_ms, Some(START_MS + 20_000));
    assert_eq!(process.deadline_at_ms, Some(START_MS + 50_000));
}

#[test]
fn a_forged_command_does_not_stand_in_the_way_of_the_real_one() {
    let real = unlock("p1", "nonce001", 0);
    let forged = real.replace("nonce001", "nonce666");
    let denied = state_with("p1", "unlock", 0, r#""result":"denied","error":100,"#);
    // Its refusal is no result without a command.
    check(
        &[
            (0, delivered(&forged, 1)),
            (10, denied),
            (40_000, delivered(&unlock("p2", "nonce002", 40_000), 2)),
        ],
        &["command bad_signature", "result denied", "command ok"],
    );
    check(
        &[(0, delivered(&forged, 1)), (10, delivered(&real, 2)), (20, state("p1", "unlock", 1))],
        &["command bad_signature", "command ok", "result ok"],
    );
}

#[test]
fn a_report_that_speaks_for_another_changes_nothing() {
    let Act::State { payload, .. } = state("p1", "unlock", 1) else { panic!("a state") };
    let act = |publisher: &str, lock: &str, payload: &str| Act::State {
        publisher: publisher.to_owned(),
        lock: lock.to_owned(),
        payload: payload.to_owned(),
    };
    for act in
        [act("eve", LOCK, &payload), act(LOCK, "2", &payload), act(LOCK, LOCK, &payload.replace(LOCK, "2"))]
    {
        let (events, memory) = judged(&settings(), &[(0, act.clone())]);
        assert_eq!(events.iter().map(short).collect::<Vec<_>>(), ["finding identity_mismatch"], "{act:?}");
        assert_eq!(events[0].severity, Severity::Critical);
        assert_eq!((memory.processes.len(), memory.locks.len()), (0, 0));
    }
    check(&[(0, act("eve", LOCK, "nonsense"))], &["finding identity_mismatch+invalid_report"]);
    check(&[(0, act(LOCK, LOCK, "nonsense"))], &["finding invalid_report"]);
}

#[test]
fn changes_are_history_and_heartbeats_are_not() {
    let bad = |lock_state| state_with("", "", lock_state, r#""error":"x","#);
    check(
        &[
            (0, state("", "", 0)),
            (1, state("", "", 0)),
            (2, state("", "", 1)),
            (3, state("", "", 77)),
            (4, state("", "", 77)),
            (5, bad(77)),
            (6, bad(0)),
        ],
        &[
            "change",
            "change",
            "change unknown_lock_state",
            "finding invalid_report+unknown_lock_state",
            "change invalid_report",
        ],
    );
}

#[test]
fn a_late_report_does_not_turn_the_state_back() {
    let acts = [(1_000, state("", "", 1)), (500, state("", "", 0)), (1_500, state("", "", 1))];
    let mut memory = Memory::default();
    let decision = memory.judge(&settings(), &records(&acts));
    assert_eq!(decision.events.len(), 1);
    assert_eq!(decision.quiet, Quiet { heartbeats: 1, late: 1 });
    assert_eq!(memory.locks[LOCK], LastState { raw: 1, changed_at_ms: START_MS + 1_000 });
}

#[test]
fn an_attempt_uses_no_nonce_up() {
    let payload = unlock("p1", "nonce001", 0);
    let attempt = |payload: &str, reason| Act::Reject {
        from: "eve".to_owned(),
        lock: LOCK.to_owned(),
        payload: payload.to_owned(),
        reason,
    };
    let acts = [
        (0, attempt(&payload, "busy")),
        (1, attempt("nonsense", "malformed")),
        (2, delivered(&payload, 1)),
        (3, attempt(&payload, "replay")),
        (4, attempt(&payload, "stale")),
        (40_000, state("", "", 0)),
    ];
    let (events, memory) = judged(&settings(), &acts);
    assert_eq!(
        events.iter().map(short).collect::<Vec<_>>(),
        ["attempt ok", "attempt malformed", "command ok", "attempt replay", "attempt stale", "change"]
    );
    let reasons: Vec<_> = events.iter().map(|event| event.reason.as_deref()).collect();
    let judged_otherwise = |own| format!("{own} by the auditor's own judgement");
    assert_eq!(reasons[0], Some("busy"));
    assert_eq!(reasons[3], Some("replay"));
    assert_eq!(reasons[4], Some(format!("stale; {}", judged_otherwise("replay")).as_str()));
    assert_eq!((events[0].severity, events[0].username.as_deref()), (Severity::Warning, Some("someone")));
    assert_eq!(memory.nonces.len(), 1);
    assert_eq!(memory.clock.commands_at_ms, Some(START_MS + 2), "attempts are in no order with the rest");
}

#[test]
fn publishers_are_those_that_are_listed() {
    let mut settings = settings();
    let payload = unlock("p1", "nonce001", 0);
    let reject = Act::Reject {
        from: "svc-7".to_owned(),
        lock: LOCK.to_owned(),
        payload: payload.clone(),
        reason: "busy",
    };
    for (client_ids, usernames, expected) in [
        (vec![], vec![], [false, false]),
        (vec!["backend"], vec![], [false, true]),
        (vec!["back*", "svc-*"], vec![], [false, false]),
        (vec!["other"], vec!["someone"], [true, false]),
        (vec![], vec!["nobody"], [false, true]),
    ] {
        let patterns = |names: &[&str]| names.iter().map(|name| Pattern::new(name)).collect();
        settings.publishers =
            Publishers { client_ids: patterns(&client_ids), usernames: patterns(&usernames) };
        let (events, _) = judged(&settings, &[(0, delivered(&payload, 1)), (1, reject.clone())]);
        let found = events.iter().map(|event| event.findings == ["unauthorised_publisher"]);
        assert_eq!(found.collect::<Vec<_>>(), expected, "{client_ids:?} {usernames:?}");
    }
}
