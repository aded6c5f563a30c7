//! Doors.

use super::check;

#[test]
fn a_forced_door_is_told_until_the_lock_says_otherwise() {
    check(
        "
        0 report door=1
        1:00 report door=3
        -> 1:00 door_forced begin critical
        2:00 report
        3:00 report door=3 alarm=6
        4:00 report door=1 alarm=6
        5:00 report door=1
        -> 5:00 door_forced end
        6:00 report alarm=6
        -> 6:00 door_forced begin critical
        7:00 report
        -> 7:00 door_forced end
        ",
    );
}

#[test]
fn a_cover_that_is_off_is_told_until_it_is_on() {
    check(
        "
        0 report alarm=5
        -> 0 tamper begin critical
        1:00 report alarm=5
        10:00 report alarm=5
        -> 10:00 tamper hold
        11:00 report
        -> 11:00 tamper end
        ",
    );
}

#[test]
fn a_door_that_is_ajar_is_told_after_its_delay() {
    check(
        "
        0 report door=5
        59.999 pass
        1:00 pass
        -> 1:00 door_ajar begin warning
        2:00 report door=0
        2:20 report door=5
        3:00 report door=1
        3:09.999 report door=5
        4:00 report door=1
        4:09.999 pass
        4:10 pass
        -> 4:10 door_ajar end
        5:00 report door=5
        5:59.999 report door=0
        8:00 report door=1
        ",
    );
}

#[test]
fn a_door_whose_state_is_not_told_has_its_alarm() {
    check(
        "
        0 report alarm=7
        1:00 report alarm=7
        -> 1:00 door_ajar begin warning
        2:00 report
        3:00 report
        -> 2:10 door_ajar end
        ",
    );
}

#[test]
fn wrong_codes_are_told_when_they_are_new() {
    check(
        "
        0 report alarm=4
        -> 0 wrong_code_limit occur major
        1:00 report alarm=4
        2:00 report
        3:00 report alarm=4
        -> 3:00 wrong_code_limit occur major
        ",
    );
}
