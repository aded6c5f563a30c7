//! Reports that are late, again, or not good.

use super::check;

#[test]
fn what_is_late_or_again_changes_nothing() {
    check(
        "
        1:00 report state=locked hash=1 boot=1 seq=5
        1:00 report state=locked hash=1 dup duplicate
        0:59.999 report state=fault late
        2:00 report state=fault boot=1 seq=4 late
        2:00 report state=locked boot=1 seq=6 hash=2
        3:00 report state=fault boot=2 seq=1 hash=3
        -> 3:00 lock_fault begin critical
        4:00 report state=fault hash=3 dup duplicate
        4:00 report state=fault hash=3
        5:00 report state=locked hash=4 dup
        -> 5:00 lock_fault end
        6:00 report state=fault boot=2 seq=0 late
        ",
    );
}

#[test]
fn the_first_report_is_no_duplicate() {
    check(
        "
        0 report state=fault hash=0 dup
        -> 0 lock_fault begin critical
        ",
    );
}

#[test]
fn three_bad_reports_within_ten_minutes_are_told() {
    check(
        "
        0 invalid
        5:00 report flaw
        10:00 invalid
        14:59.999 report flaw
        -> 14:59.999 invalid_report begin warning
        ",
    );
}

#[test]
fn three_good_reports_in_a_row_end_it() {
    check(
        "
        0 invalid
        1 invalid
        2 invalid
        -> 2 invalid_report begin warning
        3 invalid
        10 report
        20 report
        30 report flaw
        40 report
        50 report
        59 report
        -> 59 invalid_report end
        1:10 invalid
        1:20 report
        1:30 invalid
        1:40 invalid
        -> 1:40 invalid_report begin warning
        ",
    );
}
