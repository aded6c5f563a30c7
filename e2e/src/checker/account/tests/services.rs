//! What the services have made of the records.

use super::*;

#[test]
fn the_history_is_accounted_for() {
    check(
        "no command",
        |world| drop(world.evidence.events.remove(0)),
        &[(Broken::MissingEvent, 1), (Broken::WrongVerdict, 1)],
    );
    check("no result", |world| drop(world.evidence.events.remove(1)), &[(Broken::MissingEvent, 1)]);
    check(
        "a record twice",
        |world| world.evidence.events.push(event("command", COMMANDS, 0, "p1", "ok")),
        &[(Broken::RepeatedEvent, 1), (Broken::WrongVerdict, 1)],
    );
    check(
        "a result twice",
        |world| world.evidence.events.push(event("result", STATES, 4, "p1", "ok")),
        &[(Broken::RepeatedEvent, 1)],
    );
    check(
        "a replay that was none",
        |world| world.evidence.events[0].verdict = "replay".to_owned(),
        &[(Broken::WrongVerdict, 2), (Broken::Unpublished, 2)],
    );
    check(
        "something was found",
        |world| world.evidence.events[1].findings.push("result_mismatch".to_owned()),
        &[(Broken::WrongVerdict, 1), (Broken::Unpublished, 2)],
    );
    check(
        "an attempt that was none",
        |world| {
            world.insert(6, record(REJECTED, 0, COMMAND, "9-1", false));
            world.evidence.events.push(event("attempt", REJECTED, 0, "p1", "stale"));
        },
        &[(Broken::WrongVerdict, 1), (Broken::Unpublished, 2)],
    );
    check(
        "chains",
        |world| world.evidence.chains = Some("chain 2: row 7".to_owned()),
        &[(Broken::BrokenChain, 1)],
    );
    let wait = |world: &mut World| world.evidence.awaited.push((LOCK.to_owned(), "p1".to_owned()));
    check("both halves are there, and one is awaited", wait, &[(Broken::StillAwaited, 1)]);
    check(
        "the result is awaited, and is not there",
        |world| {
            wait(world);
            world.evidence.events.truncate(1);
            world.evidence.notifications.clear();
            world.evidence.arrivals.clear();
            world.page().reports[RESULT as usize - 1].result_of = None;
        },
        &[],
    );
}

#[test]
fn what_was_found_is_published_and_raises_an_alarm() {
    let found = |world: &mut World, records: &[Record]| {
        world.evidence.records.pop();
        world.broker_died(100_200);
        let mut finding = event("result", STATES, RESULT as i64, "p1", "ok");
        finding.findings = vec!["orphan_result".to_owned()];
        finding.row = (2, 7);
        world.evidence.events = vec![finding];
        world.evidence.records.extend(records.iter().cloned());
    };
    let orphan = "security_orphan_result";
    for (name, records, expected) in [
        ("both", vec![finding(7), alarm(orphan)], vec![]),
        ("again", vec![finding(7), alarm(orphan), finding(7), alarm(orphan)], vec![]),
        ("not published", vec![alarm(orphan)], vec![(Broken::Unpublished, 1)]),
        ("no alarm", vec![finding(7)], vec![(Broken::Unpublished, 1)]),
        ("of nothing", vec![finding(7), finding(8), alarm(orphan)], vec![(Broken::UnknownRecord, 1)]),
        (
            "another alarm",
            vec![finding(7), alarm(orphan), alarm("security_replay")],
            vec![(Broken::FalseAlarm, 1)],
        ),
        ("of the lock", vec![finding(7), alarm(orphan), alarm("tamper")], vec![(Broken::FalseAlarm, 1)]),
    ] {
        check(name, |world| found(world, &records), &expected);
    }
    check("out of the blue", |world| world.evidence.records.push(alarm(orphan)), &[(Broken::FalseAlarm, 1)]);
}

#[test]
fn what_was_told_is_accounted_for() {
    let arrive = |world: &mut World, id: &str, times: u32| {
        world.evidence.arrivals.insert(id.to_owned(), times);
    };
    check("a mail too many", |world| arrive(world, "email", 2), &[(Broken::ToldTooOften, 1)]);
    check(
        "a mail twice that may have been sent",
        |world| {
            arrive(world, "email", 2);
            world.evidence.notifications[0].ambiguous = 1;
        },
        &[],
    );
    check("an SMS that did not arrive", |world| arrive(world, "sms", 0), &[(Broken::Untold, 1)]);
    check(
        "an SMS that was given up",
        |world| world.evidence.notifications[1].status = "expired".to_owned(),
        &[(Broken::Untold, 1)],
    );
    check(
        "no SMS",
        |world| {
            world.evidence.notifications.pop();
            world.evidence.arrivals.remove("sms");
        },
        &[(Broken::Untold, 1)],
    );
    check(
        "two notifications",
        |world| {
            world.evidence.notifications.push(Notification { id: "other".to_owned(), ..notification("sms") });
            arrive(world, "other", 1);
        },
        &[(Broken::ToldTooOften, 1)],
    );
    check(
        "that it was locked, which nobody has asked for",
        |world| {
            let result = &mut world.page().reports[RESULT as usize - 1];
            let locked = String::from_utf8(result.payload.to_vec()).unwrap().replace("unlock", "lock");
            result.payload = locked.clone().into();
            world.evidence.records[RESULT as usize - 1] = record(STATES, 3, &locked, "7-3", false);
        },
        &[(Broken::ToldTooOften, 2)],
    );
    check("from nowhere", |world| arrive(world, "ghost", 1), &[(Broken::UnknownMessage, 1)]);
    let of_another = [(Broken::Untold, 1), (Broken::ToldTooOften, 1)];
    let mail =
        |change: fn(&mut Notification)| move |world: &mut World| change(&mut world.evidence.notifications[0]);
    check("about another lock", mail(|mail| mail.lock = "7".to_owned()), &of_another);
    check("that it failed", mail(|mail| mail.event_type = "unlock_failed".to_owned()), &of_another);
    check(
        "of what nobody was asked to do",
        |world| {
            let process_id = "p2".to_owned();
            let other = Notification { id: "other".to_owned(), process_id, ..notification("email") };
            world.evidence.notifications.push(other);
            arrive(world, "other", 1);
        },
        &[(Broken::ToldTooOften, 1)],
    );
    for told in [true, false] {
        check(
            "a result that was not acknowledged may be told",
            |world| {
                world.page().reports[RESULT as usize - 1].acked = false;
                if !told {
                    world.evidence.notifications.clear();
                    world.evidence.arrivals.clear();
                }
            },
            &[],
        );
    }
}

#[test]
fn each_alarm_is_told() {
    const ORPHAN: &str = "security_orphan_result";
    let tell = |world: &mut World, channel: &str, no: i32| {
        let (id, alarm) = (format!("{channel} {no}"), Some(("a1".to_owned(), no)));
        let (event_type, process_id) = (ORPHAN.to_owned(), String::new());
        let one = Notification { id: id.clone(), event_type, process_id, alarm, ..notification(channel) };
        world.evidence.notifications.push(one);
        world.evidence.arrivals.insert(id, 1);
    };
    let untold = |times| vec![(Broken::Untold, times)];
    let too_often = |times| vec![(Broken::ToldTooOften, times)];
    // Numbers of changes in the stream, those of them that somebody should be told of, who was told.
    for (name, numbers, loud, told, expected) in [
        ("both", vec![1], 1..=1, vec![("email", 1), ("sms", 1)], vec![]),
        ("its stream has it twice", vec![1, 1], 1..=1, vec![("email", 1), ("sms", 1)], vec![]),
        ("nobody", vec![1], 1..=1, vec![], untold(2)),
        ("no SMS", vec![1], 1..=1, vec![("email", 1)], untold(1)),
        ("not of the second", vec![1, 2], 1..=2, vec![("email", 1), ("sms", 1)], untold(2)),
        ("of a quiet one", vec![1, 2], 1..=1, vec![("email", 1), ("sms", 1), ("sms", 2)], too_often(1)),
        ("of none", vec![1], 1..=1, vec![("email", 1), ("sms", 1), ("email", 3)], too_often(1)),
        ("twice", vec![1], 1..=1, vec![("email", 1), ("sms", 1), ("sms", 1)], too_often(1)),
    ] {
        let change = |world: &mut World| {
            // The receipt of its command has died with the broker.
            world.evidence.records.pop();
            world.broker_died(100_200);
            let mut found = event("result", STATES, RESULT as i64, "p1", "ok");
            found.findings = vec!["orphan_result".to_owned()];
            world.evidence.events = vec![found];
            let changes = numbers.into_iter().map(|no| change(ORPHAN, no, loud.contains(&no)));
            world.evidence.records.extend([finding(0)].into_iter().chain(changes));
            for (channel, no) in told {
                tell(world, channel, no);
            }
        };
        check(name, change, &expected);
    }
    let other = |world: &mut World| world.evidence.records.push(published(ALARMS, json!({ "no": 1 })));
    check("what cannot be read", other, &[(Broken::UnknownRecord, 1)]);
}

#[test]
fn services_are_accounted_for() {
    check("behind", |world| world.evidence.offsets[2].next -= 1, &[(Broken::Unread, 1)]);
    let dead = ("message_state.auditor.dlq".to_owned(), 2);
    check("put aside", |world| world.evidence.ends.extend([(dead, 1)]), &[(Broken::Unread, 1)]);
    let state = |change: fn(&mut State)| {
        move |world: &mut World| change(world.evidence.states.get_mut(LOCK).unwrap())
    };
    check("an old state", state(|state| state.last_offset = 4), &[(Broken::WrongState, 1)]);
    check("another state", state(|state| state.lock_state = Some(0)), &[(Broken::WrongState, 1)]);
    check(
        "the last report again is none",
        |world| {
            world.sent_again(5..=5);
            world.insert(5, record(STATES, 6, &report(5), "8-1", true));
        },
        &[],
    );
    check(
        "a lock from nowhere",
        |world| world.evidence.states.extend([("1".to_owned(), State::default())]),
        &[(Broken::WrongState, 1)],
    );
    check(
        "seen by a client",
        |world| (world.book.broken, world.book.broken_count) = (vec!["PUBACK".to_owned()], 1),
        &[(Broken::Protocol, 1)],
    );
}
