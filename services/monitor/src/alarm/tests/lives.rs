//! The life cycle: every act in every state, and random lives against the same table.

use latchline_shared::alarm::{AlarmType, Change, Origin, Severity, State};
use proptest::prelude::*;
use serde_json::json;

use super::super::announce::alert;
use super::super::lifecycle::{Act, By, Illegal, Raise, raise, transition};
use super::super::schedule;
use super::super::suppression::Suppressed;
use super::super::{Alarm, Event, Timing};
use super::{DAY_MS, HOUR_MS, MINUTE_MS, START_MS};
use crate::signal::Place;

const LATCHED: AlarmType = AlarmType::Tamper;
const PLAIN: AlarmType = AlarmType::LockFault;
const UNTIL_MS: i64 = START_MS + DAY_MS;

/// In which of the five states an alarm may be, in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Active, the condition holds.
    Active,
    /// Active, the condition is over.
    Over,
    Acknowledged,
    Cleared,
    Closed,
}

const ALL: [(At, char); 5] =
    [(At::Active, 'a'), (At::Over, 'o'), (At::Acknowledged, 'k'), (At::Cleared, 'c'), (At::Closed, 'x')];

/// What becomes of the states: `!` is illegal; two letters are for plain and for latched ones.
const TABLE: [(Act, [&str; 5]); 14] = [
    (Act::Begin(Severity::Major), ["a", "a", "k", "a", "!"]),
    (Act::Occur(Severity::Major), ["a", "o", "a", "o", "!"]),
    (Act::Worsen(Severity::Critical), ["a", "o", "k", "c", "!"]),
    (Act::Hold, ["a", "o", "k", "c", "!"]),
    (Act::End, ["co", "o", "x", "c", "!"]),
    (Act::Acknowledge, ["k", "x", "!", "x", "!"]),
    (Act::Unacknowledge, ["!", "!", "a", "!", "!"]),
    (Act::Shelve { until_ms: UNTIL_MS }, ["a", "o", "k", "c", "!"]),
    (Act::Unshelve, ["a", "o", "k", "c", "!"]),
    (Act::Clear, ["x", "x", "x", "x", "!"]),
    (Act::Comment, ["a", "o", "k", "c", "x"]),
    (Act::Escalate, ["a", "o", "!", "!", "!"]),
    (Act::Announce, ["a", "o", "!", "!", "!"]),
    (Act::Expire, ["!", "!", "!", "x", "!"]),
];

fn at(alarm: &Alarm) -> At {
    match (alarm.state, alarm.condition) {
        (State::Active, true) => At::Active,
        (State::Active, false) => At::Over,
        (State::Acknowledged, true) => At::Acknowledged,
        (State::Cleared, false) => At::Cleared,
        (State::Closed, false) => At::Closed,
        other => panic!("{other:?}"),
    }
}

/// What the table says; none: illegal.
fn expected(alarm: &Alarm, act: Act) -> Option<At> {
    let is_same = |other: Act| std::mem::discriminant(&other) == std::mem::discriminant(&act);
    let row = TABLE.iter().find(|(other, _)| is_same(*other)).unwrap().1;
    let column = ALL.iter().position(|(state, _)| *state == at(alarm)).unwrap();
    let letters = row[column];
    let letter = letters.chars().nth(usize::from(letters.len() > 1 && alarm.alarm_type == LATCHED)).unwrap();
    // What depends on more than the state.
    let is_refused = match act {
        Act::Unshelve => alarm.shelved_until_ms.is_none(),
        Act::Escalate => alarm.level > 0 || alarm.severity < Severity::Major,
        _ => false,
    };
    ALL.iter().find(|(_, other)| *other == letter && !is_refused).map(|(state, _)| *state)
}

fn by() -> By<'static> {
    By { origin: Origin::Operator, actor: "duty", cause: json!({}), value: None }
}

fn raised(alarm_type: AlarmType, holds: bool) -> (Alarm, Event) {
    let place = Place::default();
    let raise_it = Raise { client_id: "lock-1", alarm_type, severity: Severity::Major, holds, place: &place };
    raise(raise_it, START_MS, by(), |_| None)
}

fn brought(alarm_type: AlarmType, state: At) -> Alarm {
    let (mut alarm, _) = raised(alarm_type, state != At::Over);
    let acts: &[Act] = match state {
        At::Active | At::Over => &[],
        At::Acknowledged => &[Act::Acknowledge],
        // Latched ones do not get there by themselves.
        At::Cleared => &[Act::End],
        At::Closed => &[Act::Clear],
    };
    for act in acts {
        transition(&mut alarm, *act, START_MS, by(), |_| None).unwrap();
    }
    alarm
}

#[test]
fn every_act_in_every_state() {
    for alarm_type in [PLAIN, LATCHED] {
        for (state, _) in ALL {
            if state == At::Cleared && alarm_type == LATCHED {
                continue;
            }
            for (act, _) in TABLE {
                for is_shelved in [false, true] {
                    let mut alarm = brought(alarm_type, state);
                    if is_shelved && alarm.is_open() {
                        transition(&mut alarm, Act::Shelve { until_ms: UNTIL_MS }, START_MS, by(), |_| None)
                            .unwrap();
                    }
                    check(&mut alarm, act, START_MS + 1, None);
                }
            }
        }
    }
}

/// One act: as the table says, and with all that must hold of any.
fn check(alarm: &mut Alarm, act: Act, at_ms: i64, suppressed: Option<Suppressed>) -> Option<Event> {
    let before = alarm.clone();
    let mut expected = expected(alarm, act);
    if suppressed.is_some() && matches!(act, Act::Escalate | Act::Announce) {
        expected = None;
    }
    let done = transition(alarm, act, at_ms, by(), |_| suppressed);
    let Some(expected) = expected else {
        assert_eq!(done, Err(Illegal { act: act.name(), state: before.state }), "{act:?} {before:?}");
        assert_eq!(*alarm, before, "{act:?}");
        return None;
    };
    let event = done.unwrap_or_else(|illegal| panic!("{illegal}: {before:?}"));
    assert_eq!(at(alarm), expected, "{act:?} {before:?}");
    assert_eq!(alarm.cleared_at_ms.is_some(), !alarm.condition, "{act:?} {before:?}");
    assert_eq!(alarm.closed_at_ms.is_some(), !alarm.is_open());
    assert!(alarm.state != State::Active || alarm.acked_by.is_none(), "{act:?} {before:?}");
    assert!(alarm.state != State::Acknowledged || alarm.acked_by.is_some());
    assert!(alarm.is_open() || alarm.shelved_until_ms.is_none());
    assert!(alarm.changed_at_ms >= before.changed_at_ms && alarm.last_at_ms >= before.last_at_ms);
    let looks = schedule::look_at(alarm, at_ms, &Timing::default(), i64::MIN, suppressed);
    assert!(alarm.is_open() || looks.is_none());
    let Some(event) = event else {
        assert_eq!((alarm.no, alarm.state, alarm.severity), (before.no, before.state, before.severity));
        return None;
    };
    assert_eq!((event.no, alarm.no, event.alarm_id), (before.no + 1, before.no + 1, before.id));
    assert_eq!((event.from, event.to, event.severity), (Some(before.state), alarm.state, alarm.severity));
    assert_eq!(event.at_ms, at_ms.max(before.changed_at_ms));
    let is_quiet = suppressed.is_some_and(|why| why.keeps_quiet(event.change));
    assert!(!(event.notify && is_quiet), "{event:?}");
    assert!(!(event.notify && event.suppressed_by.is_some()), "{event:?}");
    if event.change == Change::ReturnedToNormal {
        assert_eq!(event.notify || event.suppressed_by.is_some(), before.told);
        let is_inhibited = matches!(suppressed, Some(Suppressed::Inhibited(_)));
        assert!(event.notify || !before.told || suppressed.is_some() && !is_inhibited, "{event:?}");
    } else if event.notify {
        assert_eq!(alarm.announced_at_ms, Some(event.at_ms));
    }
    if !before.is_open() {
        let mut same = before;
        (same.no, same.changed_at_ms) = (alarm.no, alarm.changed_at_ms);
        assert_eq!(*alarm, same, "closed");
    }
    Some(event)
}

fn acts() -> impl Strategy<Value = Act> {
    let severity = || prop::sample::select(Severity::ALL);
    prop_oneof![
        4 => severity().prop_map(Act::Begin),
        4 => severity().prop_map(Act::Occur),
        4 => severity().prop_map(Act::Worsen),
        4 => (1..7 * DAY_MS).prop_map(|ms| Act::Shelve { until_ms: START_MS + ms }),
        12 => prop::sample::select(vec![
            Act::Hold,
            Act::End,
            Act::End,
            Act::Acknowledge,
            Act::Unacknowledge,
            Act::Unshelve,
            Act::Comment,
            Act::Escalate,
            Act::Announce,
            Act::Expire,
        ]),
        1 => Just(Act::Clear),
    ]
}

proptest! {
    #[test]
    fn a_life_is_as_the_table_says(
        is_latched in any::<bool>(),
        holds in any::<bool>(),
        life in prop::collection::vec((acts(), -HOUR_MS..HOUR_MS, any::<bool>()), 1..40),
    ) {
        let (mut alarm, first) = raised(if is_latched { LATCHED } else { PLAIN }, holds);
        prop_assert_eq!((first.no, first.change, first.from, first.notify), (1, Change::Raised, None, true));
        let (mut count, mut now_ms, mut is_told) = (1, START_MS, true);
        for (act, step_ms, is_quiet) in life {
            now_ms += step_ms;
            let shelved = alarm.shelved_until_ms.filter(|until_ms| *until_ms > alarm.ordered(now_ms));
            let suppressed = match (shelved, is_quiet) {
                (Some(until_ms), _) => Some(Suppressed::Shelved { until_ms }),
                (None, true) => Some(Suppressed::Inhibited(AlarmType::LockFault)),
                (None, false) => None,
            };
            let (had_condition, was_open) = (alarm.condition, alarm.is_open());
            let event = check(&mut alarm, act, now_ms, suppressed);
            count += i32::from(was_open && match act {
                Act::Begin(_) => !had_condition,
                Act::Occur(_) => true,
                _ => false,
            });
            prop_assert_eq!(alarm.count, count);
            // Nobody who was told that it is over was not told that it was there.
            if let Some(event) = event {
                let is_over = event.change == Change::ReturnedToNormal;
                prop_assert!(!(is_over && event.notify && !is_told));
                if event.notify {
                    is_told = !is_over || event.to == State::Active;
                }
                prop_assert_eq!(alarm.told, is_told);
            }
        }
    }
}

#[test]
fn one_that_becomes_worse_or_comes_back_is_told_even_if_it_is_active() {
    let check = |acts: &[Act], expected: (Change, Severity, bool)| {
        let (mut alarm, _) = raised(LATCHED, false);
        let events: Vec<Event> = acts
            .iter()
            .filter_map(|act| transition(&mut alarm, *act, START_MS + MINUTE_MS, by(), |_| None).unwrap())
            .collect();
        let last = events.last().unwrap();
        assert_eq!((last.change, last.severity, last.notify), expected, "{acts:?}");
    };
    let (minor, major, critical) = (Severity::Minor, Severity::Major, Severity::Critical);
    check(&[Act::Occur(major)], (Change::Repeated, major, false));
    check(&[Act::Occur(minor)], (Change::Repeated, major, false));
    check(&[Act::Occur(critical)], (Change::Worsened, critical, true));
    check(&[Act::Begin(major)], (Change::Repeated, major, true));
    check(&[Act::Begin(minor)], (Change::Repeated, major, true));
    check(&[Act::Begin(major), Act::End, Act::Begin(minor)], (Change::Repeated, major, true));
    check(&[Act::Begin(major), Act::End, Act::Begin(critical)], (Change::Worsened, critical, true));
    check(&[Act::Begin(major), Act::Occur(major)], (Change::Repeated, major, false));
    check(&[Act::Begin(critical)], (Change::Worsened, critical, true));
    check(&[Act::Begin(major), Act::Worsen(critical)], (Change::Worsened, critical, true));
    check(&[Act::Begin(major), Act::Acknowledge, Act::Occur(minor)], (Change::Repeated, major, true));
    check(&[Act::Begin(major), Act::Worsen(minor)], (Change::Repeated, major, true));
}

#[test]
fn the_end_of_what_was_told_is_told_whatever_was_kept_quiet_in_between() {
    let inhibited = Suppressed::Inhibited(AlarmType::BatteryCritical);
    let silence = Suppressed::Silence { id: uuid::Uuid::nil(), ends_at_ms: UNTIL_MS };
    let check = |raised_in: Option<Suppressed>,
                 acts: &[(Act, Option<Suppressed>)],
                 expected: (bool, bool)| {
        let place = Place::default();
        let (alarm_type, severity) = (AlarmType::BatteryLow, Severity::Warning);
        let raise_it = Raise { client_id: "lock-1", alarm_type, severity, holds: true, place: &place };
        let (mut alarm, _) = raise(raise_it, START_MS, by(), |_| raised_in);
        let mut last = None;
        for (act, suppressed) in acts {
            let event = transition(&mut alarm, *act, START_MS + 1, by(), |_| *suppressed).unwrap().unwrap();
            let alert = alert(&alarm, &event);
            last = Some((event.notify, alert.is_some_and(|alert| alert["status"] == "resolved")));
        }
        assert_eq!(last, Some(expected), "{raised_in:?} {acts:?}");
    };
    let (begin, worsen) = (Act::Begin(Severity::Warning), Act::Worsen(Severity::Major));
    check(None, &[(Act::End, None)], (true, true));
    check(None, &[(Act::End, Some(inhibited))], (true, true));
    check(None, &[(worsen, Some(inhibited)), (Act::End, None)], (true, true));
    check(None, &[(worsen, Some(silence)), (Act::End, Some(inhibited))], (true, true));
    check(None, &[(Act::Acknowledge, None), (Act::End, Some(inhibited))], (true, true));
    // People are left alone; the alert ends all the same.
    check(None, &[(Act::End, Some(silence))], (false, true));
    check(None, &[(worsen, Some(silence)), (Act::Clear, None)], (false, true));
    // Nobody heard of it, or everybody that it is over.
    check(Some(inhibited), &[(Act::End, None)], (false, false));
    check(None, &[(Act::End, None), (begin, Some(inhibited)), (Act::End, None)], (false, false));
    check(None, &[(Act::End, Some(silence)), (Act::Expire, None)], (false, false));
}
