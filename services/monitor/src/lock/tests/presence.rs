//! Silence: locks that come back, flap, and fall silent while nobody listens.

use super::bolt::rules;
use super::{check, check_with};

#[test]
fn a_silent_lock_is_offline_and_alarms_after_the_hold() {
    check(
        "
        0 live
        10:00 report
        13:29.999 lapse
        13:30 lapse
        13:59.999 lapse
        14:00 lapse
        -> 14:00 device_offline begin warning (clock)
        24:59.999 lapse
        25:00 lapse
        -> 25:00 device_offline worsen major (clock)
        50:00 lapse
        51:00 report
        52:00 report
        -> 52:00 device_offline end (clock)
        ",
    );
}

#[test]
fn it_does_not_matter_when_one_looks() {
    check(
        "
        0 live
        10:00 report
        40:00 lapse
        -> 14:00 device_offline begin warning (clock)
        -> 25:00 device_offline worsen major (clock)
        ",
    );
}

#[test]
fn a_lock_that_comes_back_within_the_hold_is_not_told() {
    check(
        "
        0 live
        10:00 report
        13:45 lapse
        13:50 report
        17:19.999 lapse
        17:20 lapse
        17:49.999 report
        18:00 lapse
        ",
    );
}

#[test]
fn one_report_is_not_enough() {
    check(
        "
        0 live
        10:00 report
        14:00 lapse
        -> 14:00 device_offline begin warning (clock)
        15:00 report
        18:30 lapse
        20:00 lapse
        30:00 lapse
        -> 30:00 device_offline worsen major (clock)
        31:00 report
        32:00 invalid
        -> 32:00 device_offline end (clock)
        36:00 lapse
        -> 36:00 device_offline begin warning (clock)
        ",
    );
}

#[test]
fn nothing_is_told_of_the_time_in_which_nobody_listened() {
    check(
        "
        0 live
        1:00 report
        2:00 blind
        30:00 lapse
        32:00 live
        32:59.999 lapse
        33:00 lapse
        33:10 report
        33:30 lapse
        36:39 lapse
        37:00 blind
        1:00:00 live
        1:00:59 lapse
        1:01:00 lapse
        1:01:29.999 lapse
        1:01:30 lapse
        -> 1:01:30 device_offline begin major (clock)
        ",
    );
}

#[test]
fn what_was_held_back_when_one_stopped_listening_begins_anew() {
    check(
        "
        0 live
        10:00 report
        13:30 lapse
        13:35 blind
        13:40 live
        14:39 lapse
        15:09.999 lapse
        15:10 lapse
        -> 15:10 device_offline begin warning (clock)
        20:00 blind
        26:00 live
        26:59.999 lapse
        27:00 lapse
        -> 27:00 device_offline worsen major (clock)
        ",
    );
}

#[test]
fn a_silent_fleet_is_not_a_silent_lock() {
    check(
        "
        0 live
        10:00 report
        13:45 lapse
        13:50 fleet down
        14:00 lapse
        25:00 lapse
        26:00 fleet up
        26:29.999 lapse
        26:30 lapse
        -> 26:30 device_offline begin major (clock)
        ",
    );
}

#[test]
fn an_alarm_of_before_does_not_become_worse_while_the_fleet_is_silent() {
    check(
        "
        0 live
        10:00 report
        14:00 lapse
        -> 14:00 device_offline begin warning (clock)
        14:30 fleet down
        30:00 lapse
        30:30 fleet up
        31:00 lapse
        -> 30:30 device_offline worsen major (clock)
        ",
    );
}

const FLAPS: &str = "[device_offline]\nsilent_s = 60\nhold_s = 20";

#[test]
fn a_lock_that_comes_and_goes_is_told_once() {
    check_with(
        &rules(FLAPS),
        "
        0 live
        10:00 report
        11:00 lapse
        11:10 report
        12:10 lapse
        12:20 report
        13:19 lapse
        13:20 lapse
        -> 13:20 device_flapping begin warning (clock)
        13:50 lapse
        14:00 report
        15:00 lapse
        15:30 lapse
        24:59.999 lapse
        25:00 lapse
        -> 25:00 device_flapping end (clock)
        -> 25:00 device_offline begin warning (clock)
        26:00 report
        27:00 report
        -> 27:00 device_offline end (clock)
        ",
    );
}

#[test]
fn four_edges_are_not_enough_and_neither_are_old_ones() {
    check_with(
        &rules(FLAPS),
        "
        0 live
        10:00 report
        11:00 lapse
        11:10 report
        12:10 lapse
        12:15 report
        13:10 report
        14:10 report
        15:10 report
        16:10 report
        17:10 report
        18:10 report
        19:10 report
        20:10 report
        21:10 lapse
        21:15 report
        21:20 lapse
        ",
    );
}

#[test]
fn edges_of_a_silent_fleet_are_not_the_lock_s() {
    check_with(
        &rules(FLAPS),
        "
        0 live
        10:00 report
        11:00 lapse
        11:05 fleet down
        11:10 report
        12:10 lapse
        12:20 report
        13:20 lapse
        13:30 report
        14:00 fleet up
        14:10 lapse
        14:30 lapse
        14:40 report
        15:40 lapse
        16:00 lapse
        -> 16:00 device_offline begin warning (clock)
        ",
    );
}

#[test]
fn what_is_as_bad_as_it_gets_does_not_become_worse() {
    check_with(
        &rules("[device_offline]\nseverity = \"major\"\n"),
        "
        0 live
        10:00 report
        15:00 lapse
        -> 14:00 device_offline begin major (clock)
        26:00 lapse
        ",
    );
}

#[test]
fn presence_is_known_though_its_alarm_is_off() {
    check_with(
        &rules("[device_offline]\nseverity = \"off\"\n"),
        "
        0 live
        10:00 report
        20:00 lapse
        21:00 report
        ",
    );
}
