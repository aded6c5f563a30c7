//! Batteries.

use super::check;

#[test]
fn a_low_battery_is_told_at_the_third_report() {
    check(
        "
        0 report battery=20.1
        1:00 report battery=20
        2:00 report battery=20
        3:00 report battery=20.1
        4:00 report battery=20
        5:00 report
        6:00 report battery=19.9
        7:00 report battery=20
        -> 7:00 battery_low begin warning
        8:00 report battery=24.9
        9:00 report battery=25
        10:00 report battery=25
        -> 10:00 battery_low hold
        11:00 report battery=24.9
        12:00 report battery=25
        13:00 report
        14:00 report battery=26
        15:00 report battery=25
        -> 15:00 battery_low end
        16:00 report battery=20
        17:00 report battery=20
        18:00 report battery=20
        -> 18:00 battery_low begin warning
        ",
    );
}

#[test]
fn an_empty_battery_is_told_at_the_second_report() {
    check(
        "
        0 report battery=10.1
        1:00 report battery=10
        2:00 report battery=10.1
        -> 2:00 battery_low begin warning
        3:00 report battery=10
        4:00 report battery=10
        -> 4:00 battery_critical begin critical
        5:00 report battery=14.9
        6:00 report battery=15
        7:00 report battery=15
        8:00 report battery=15
        -> 8:00 battery_critical end
        ",
    );
}

#[test]
fn a_fall_within_an_hour_is_told_once() {
    check(
        "
        0 report battery=80
        30:00 report battery=75
        59:00 report battery=70
        59:30 report battery=69.9
        -> 59:30 battery_drop occur major
        59:40 report battery=69.8
        1:05:00 report battery=69
        1:10:00 report battery=59.9
        1:11:00 report battery=59.8
        -> 1:11:00 battery_drop occur major
        3:00:00 report battery=40
        3:01:00 report battery=29.9
        -> 3:01:00 battery_drop occur major
        ",
    );
}

#[test]
fn a_fall_over_more_than_an_hour_is_none() {
    check(
        "
        0 report battery=80
        10:00 report battery=72
        1:00:00 report battery=69.9
        1:10:00 report battery=62
        2:20:00 report battery=51
        ",
    );
}

#[test]
fn a_forecast_has_thresholds_that_are_apart() {
    check(
        "
        0 report battery=40
        1:00:00 forecast days=14.1
        24:00:00 forecast days=14
        -> 24:00:00 battery_forecast begin minor
        48:00:00 forecast days=21
        -> 48:00:00 battery_forecast hold
        72:00:00 forecast days=21.1
        -> 72:00:00 battery_forecast end
        96:00:00 forecast days=3
        -> 96:00:00 battery_forecast begin minor
        120:00:00 forecast none
        -> 120:00:00 battery_forecast end
        ",
    );
}

#[test]
fn a_new_battery_ends_the_forecast() {
    check(
        "
        0 report battery=40
        1:00:00 forecast days=3
        -> 1:00:00 battery_forecast begin minor
        2:00:00 report battery=54.9
        3:00:00 report battery=69.9
        -> 3:00:00 battery_forecast end
        ",
    );
}
