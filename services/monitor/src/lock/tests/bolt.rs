//! Bolts and results.

use super::check;
use super::*;
use crate::lock::Pending;

#[test]
fn a_fault_is_told_at_once_and_ends_when_the_bolt_is_at_an_end() {
    check(
        "
        0 report state=locked
        1:00 report state=fault
        -> 1:00 lock_fault begin critical
        2:00 report state=fault
        3:00 report state=unlocking
        3:05 report state=not_fully_locked
        4:00 report state=locked
        -> 4:00 lock_fault end
        5:00 report state=fault
        -> 5:00 lock_fault begin critical
        6:00 report state=unlatched
        -> 6:00 lock_fault end
        ",
    );
}

#[test]
fn a_bolt_between_its_ends_is_told_after_its_delay() {
    check(
        "
        0 report state=not_fully_locked
        1:59.999 pass
        2:00 pass
        -> 2:00 not_fully_locked begin major
        3:00 report state=fault
        -> 3:00 lock_fault begin critical
        4:00 report state=locked
        -> 4:00 lock_fault end
        -> 4:00 not_fully_locked end
        5:00 report state=not_fully_locked
        6:59.999 report state=locked
        8:00 report state=not_fully_locked
        9:00 report state=not_fully_locked
        10:00 report state=unlocked
        -> 10:00 not_fully_locked begin major
        -> 10:00 not_fully_locked end
        ",
    );
}

#[test]
fn a_delay_ends_at_its_time_whenever_that_is_noticed() {
    check(
        "
        0 report state=not_fully_locked
        1:00:00 report state=not_fully_locked
        -> 2:00 not_fully_locked begin major
        -> 1:00:00 not_fully_locked hold
        ",
    );
}

#[test]
fn a_bolt_on_its_way_is_told_when_it_does_not_arrive() {
    check(
        "
        0 report state=locking
        14.999 pass
        15 pass
        -> 15 stuck_moving begin major
        20 report state=unlocking
        30 report state=not_fully_locked
        -> 30 stuck_moving end
        40 report state=locked
        1:00 report state=unlocking
        1:10 report state=locking
        1:14.999 report state=locked
        ",
    );
}

#[test]
fn a_lock_left_open_is_told_and_becomes_worse() {
    check(
        "
        0 report state=locked
        1:00 report state=unlocked
        5:00 report state=unlatched
        6:00 report state=locking
        6:05 report state=not_fully_locked
        6:10 report state=fault
        -> 6:10 lock_fault begin critical
        6:20 report state=unlocked
        -> 6:20 lock_fault end
        10:59.999 pass
        11:00 pass
        -> 11:00 left_unlocked begin warning
        12:00 report state=unlocked
        -> 12:00 left_unlocked hold
        13:00 report state=unlocked
        1:00:59 report state=unlocked
        -> 1:00:59 left_unlocked hold
        1:01:00 report state=unlocked
        -> 1:01:00 left_unlocked worsen major
        1:02:00 report state=unlocked
        2:02:00 report state=locked
        -> 2:02:00 left_unlocked end
        3:00:00 report state=unlocked
        3:09:59.999 report state=locked
        4:00:00 report state=unlocked
        6:00:00 pass
        -> 4:10:00 left_unlocked begin warning
        -> 5:00:00 left_unlocked worsen major
        ",
    );
}

#[test]
fn a_state_that_is_not_known_is_told_at_the_second_report() {
    check(
        "
        0 report state=unknown
        10 report state=locked
        20 report state=unknown
        30 report state=unknown
        -> 30 state_unknown begin warning
        40 report state=unknown
        50 report state=fault
        -> 50 lock_fault begin critical
        -> 50 state_unknown end
        ",
    );
}

#[test]
fn delays_that_end_together_are_told_in_the_order_of_types() {
    let text = "[stuck_moving]\ndelay_s = 120\n[left_unlocked]\ndelay_s = 120";
    check_with(
        &rules(text),
        "
        0 report state=unlocked
        0 report state=not_fully_locked
        0 report state=locking door=5
        10:00 pass
        -> 1:00 door_ajar begin warning
        -> 2:00 not_fully_locked begin major
        -> 2:00 stuck_moving begin major
        -> 2:00 left_unlocked begin warning
        ",
    );
}

#[test]
fn a_result_is_the_first_report_of_a_process() {
    check(
        "
        0 report process=p action=unlock state=unlocked
        -> 0 command_no_result end
        1:00 report process=q action=lock state=not_fully_locked
        -> 1:00 unlock_failed begin major
        1:30 report process=q action=lock state=locked
        2:00 report process=q action=lock state=locked
        3:00 report action=lock state=locked
        4:00 report process=q action=heartbeat state=locked
        5:00 report process=r action=unlock state=locked result=ok
        -> 5:00 unlock_failed end
        6:00 report process=s action=unlatch state=unlatched result=denied
        -> 6:00 unlock_failed begin major
        7:00 report process=t action=unlock state=locked result=failed
        8:00 report process=u action=unlatch state=unlatched
        -> 8:00 unlock_failed end
        ",
    );
}

#[test]
fn a_result_ends_that_there_was_none() {
    check(
        "
        0 report process=p action=lock state=locked
        -> 0 command_no_result end
        1:00 finding kind=finding findings=no_result
        -> 1:00 command_no_result begin warning
        2:00 report process=p action=lock state=locked
        2:30 finding kind=finding findings=no_result
        -> 2:30 command_no_result hold
        3:00 report process=q action=lock state=locked
        -> 3:00 command_no_result end
        4:00 report process=r action=lock state=locked
        3:59 finding kind=finding findings=no_result
        4:01 finding kind=command verdict=replay
        -> 4:01 security_replay occur critical
        ",
    );
}

#[test]
fn what_is_switched_off_is_not_told_and_what_was_is_ended() {
    let off = rules("[lock_fault]\nseverity = \"off\"\n[left_unlocked]\nseverity = \"off\"");
    check_with(
        &off,
        "
        0 report state=unlocked
        1:00 report state=fault
        1:00:00 pass
        ",
    );
    let mut player = Player::new(default_rules().clone(), Mode::Plain);
    assert_eq!(player.line("0 report state=unlocked").len(), 0);
    assert_eq!(player.line("20:00 report state=fault").len(), 3);
    player.rules = off;
    assert_eq!(player.lock.as_ref().unwrap().next_at_ms(player.rules.of("")), i64::MIN);
    let shown: Vec<String> = player.line("21:00 pass").iter().map(shown).collect();
    assert_eq!(shown, ["-> 21:00 lock_fault end", "-> 21:00 left_unlocked end"]);
    assert_eq!(player.line("2:00:00 report state=fault").len(), 0);
}

#[test]
fn a_shorter_delay_is_not_over_before_the_last_report() {
    let mut player = Player::new(default_rules().clone(), Mode::Plain);
    player.line("0 report state=unlocked");
    player.line("5:00 report state=unlocked");
    player.rules = rules("[left_unlocked]\ndelay_s = 60");
    let shown: Vec<String> = player.line("6:00 report state=unlocked").iter().map(shown).collect();
    assert_eq!(shown, ["-> 5:00 left_unlocked begin warning"]);
}

#[test]
fn delays_that_run_are_pending() {
    let mut player = Player::new(default_rules().clone(), Mode::Plain);
    let pending = |player: &Player| -> Vec<String> {
        let pending = player.lock.as_ref().unwrap().pending(player.rules.of(""));
        let shown = pending.map(|Pending { alarm, since_ms, due_ms }| {
            format!("{alarm} {} {}", time(since_ms - START_MS), time(due_ms - START_MS))
        });
        shown.collect()
    };
    player.line("0 report state=unlocked door=5");
    player.line("10 report state=locking");
    assert_eq!(pending(&player), ["stuck_moving 10 25", "left_unlocked 0 10:00", "door_ajar 0 1:00"]);
    player.line("1:00 report state=not_fully_locked");
    assert_eq!(pending(&player), ["not_fully_locked 1:00 3:00", "left_unlocked 0 10:00"]);
    player.line("2:00 report state=locked");
    assert_eq!(pending(&player), [""; 0]);
    player.line("3:00 live");
    player.line("5:45 lapse");
    assert_eq!(pending(&player), ["device_offline 5:30 6:00"]);
}

#[test]
fn what_is_as_bad_as_it_gets_does_not_become_worse() {
    check_with(
        &rules("[left_unlocked]\nseverity = \"major\""),
        "
        0 report state=unlocked
        2:00:00 pass
        -> 10:00 left_unlocked begin major
        3:00:00 report state=locked
        -> 3:00:00 left_unlocked end
        ",
    );
}

/// The default thresholds, but for these.
pub(super) fn rules(text: &str) -> Rules {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Rules::load(Some(file.path())).unwrap()
}
