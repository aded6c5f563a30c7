//! What holds for any reports.

use proptest::prelude::*;

use super::*;

/// What may happen to a lock.
#[derive(Debug, Clone)]
enum Happens {
    Report { words: Vec<&'static str>, battery: u16, process: u8, seq: Option<u8>, dup: bool },
    Invalid,
    Finding,
    Forecast(Option<u8>),
    Lapse,
    Live,
    Blind,
    Fleet(bool),
}

/// So many milliseconds later.
type Timeline = Vec<(i64, Happens)>;

fn happens() -> impl Strategy<Value = Happens> {
    let state = prop::sample::select(
        &[
            "state=locked",
            "state=unlocked",
            "state=fault",
            "state=unknown",
            "state=not_fully_locked",
            "state=unlatched",
            "state=locking",
            "state=unlocking",
        ][..],
    );
    let door = prop::sample::select(&["", "door=0", "door=1", "door=3", "door=5"][..]);
    let alarm = prop::sample::select(&["", "", "alarm=4", "alarm=5", "alarm=6", "alarm=7"][..]);
    let flaw = prop::sample::select(&["", "", "flaw"][..]);
    let report = (state, door, alarm, flaw, 0..1_001_u16, 0..4_u8, prop::option::of(0..20_u8), any::<bool>());
    let report = report.prop_map(|(state, door, alarm, flaw, battery, process, seq, dup)| Happens::Report {
        words: vec![state, door, alarm, flaw],
        battery,
        process,
        seq,
        dup,
    });
    prop_oneof![
        12 => report,
        1 => Just(Happens::Invalid),
        1 => Just(Happens::Finding),
        1 => prop::option::of(0..30_u8).prop_map(Happens::Forecast),
        6 => Just(Happens::Lapse),
        1 => Just(Happens::Live),
        1 => Just(Happens::Blind),
        1 => any::<bool>().prop_map(Happens::Fleet),
    ]
}

fn timeline() -> impl Strategy<Value = Timeline> {
    let step = prop_oneof![0..2_000_i64, 0..90_000_i64, 0..400_000_i64, 0..5_000_000_i64];
    prop::collection::vec((step, happens()), 1..80)
}

fn report_at(player: &mut Player, at_ms: i64, happens: &Happens) -> Option<(Seen, Reading, Report)> {
    let Happens::Report { words, battery, process, seq, dup } = happens else { return None };
    let (reading, mut report) = report_of(words);
    report.battery = (*battery <= 1_000).then(|| f32::from(*battery) / 10.0);
    report.process_id = if *process == 0 { String::new() } else { process.to_string() };
    report.seq = seq.map(u64::from);
    report.boot = seq.map(|_| 1);
    player.offset += 1;
    // Few different payloads, so that some come twice.
    let seen = Seen { at_ms, offset: player.offset, dup: *dup, payload_hash: u64::from(*battery % 7) };
    Some((seen, reading, report))
}

/// Plays a time line; `each` is called before each thing that happens, with the time of it.
fn play(timeline: &Timeline, mut each: impl FnMut(&mut Player, i64)) -> (Vec<Signal>, Option<Lock>) {
    let mut player = Player::new(default_rules().clone(), Mode::Plain);
    let mut at_ms = START_MS;
    for (later_ms, happens) in timeline {
        at_ms += later_ms;
        each(&mut player, at_ms);
        if let Some((seen, reading, report)) = report_at(&mut player, at_ms, happens) {
            let lock = player.lock.get_or_insert_with(|| Lock::new(&seen));
            let before = lock.clone();
            let outcome = lock.report(player.rules.of(""), reading, &report, &seen, &mut player.signals);
            assert!(outcome == Outcome::Applied || *lock == before);
            continue;
        }
        let word: &[&str] = match happens {
            Happens::Invalid => &["invalid"],
            Happens::Lapse => &["lapse"],
            Happens::Live => &["live"],
            Happens::Blind => &["blind"],
            Happens::Fleet(true) => &["fleet", "down"],
            Happens::Fleet(false) => &["fleet", "up"],
            Happens::Finding if player.lock.is_some() => &["finding", "kind=finding", "findings=no_result"],
            Happens::Forecast(Some(0..=14)) if player.lock.is_some() => &["forecast", "days=9"],
            Happens::Forecast(Some(_)) if player.lock.is_some() => &["forecast", "days=29"],
            Happens::Forecast(None) if player.lock.is_some() => &["forecast", "none"],
            _ => continue,
        };
        player.happens(at_ms, word);
    }
    (player.signals, player.lock)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn signals_are_well_formed(timeline in timeline()) {
        let (signals, lock) = play(&timeline, |_, _| {});
        assert_well_formed(&signals);
        let Some(lock) = lock else { return Ok(()) };
        for alarm in AlarmType::ALL {
            let last = signals.iter().rev().find(|signal| signal.alarm == *alarm && !alarm.is_momentary());
            let holds = last.is_some_and(|signal| signal.what != What::End);
            prop_assert_eq!(lock.memory.raised.contains(*alarm), holds, "{}", alarm);
        }
    }

    #[test]
    fn what_reports_say_is_in_the_order_of_time(timeline in timeline()) {
        let (signals, _) = play(&timeline, |_, _| {});
        let reported: Vec<i64> = signals
            .iter()
            .filter(|signal| signal.origin == latchline_shared::alarm::Origin::Report)
            .map(|signal| signal.at_ms)
            .collect();
        prop_assert!(reported.is_sorted(), "{:?}", reported);
    }

    #[test]
    fn a_restart_changes_nothing(timeline in timeline()) {
        let plain = play(&timeline, |_, _| {});
        let restarts = play(&timeline, |player, _| {
            if let Some(lock) = &mut player.lock {
                *lock = restarted(lock);
            }
        });
        prop_assert_eq!(plain, restarts);
    }

    #[test]
    fn it_does_not_matter_when_delays_are_looked_at(timeline in timeline(), parts in 1..9_i64) {
        // Of what reports say; a clock's observation is told when the clock is looked at.
        let reports: Timeline =
            timeline.into_iter().filter(|(_, happens)| matches!(happens, Happens::Report { .. })).collect();
        let mut plain = play(&reports, |_, _| {});
        let mut last_ms = START_MS;
        let mut looks = play(&reports, |player, at_ms| {
            for part in 1..=parts {
                if let Some(lock) = &mut player.lock {
                    pass(lock, &player.rules, last_ms + (at_ms - last_ms) * part / parts, &mut player.signals);
                }
            }
            last_ms = at_ms;
        });
        // The last reports may be late, and then nothing has looked.
        for (signals, lock) in [&mut plain, &mut looks] {
            if let Some(lock) = lock {
                lock.pass(default_rules().of(""), last_ms, signals);
            }
        }
        prop_assert_eq!(plain, looks);
    }

    #[test]
    fn what_is_late_changes_nothing(
        timeline in timeline(),
        late in prop::collection::vec((0..80_usize, happens(), 1..9_000_000_i64, any::<bool>()), 0..20),
    ) {
        let plain = play(&timeline, |_, _| {});
        let mut index = 0;
        let with_late = play(&timeline, |player, _| {
            for (_, happens, earlier_ms, invalid) in late.iter().filter(|one| one.0 == index) {
                insert(player, happens, *earlier_ms, *invalid);
            }
            index += 1;
        });
        prop_assert_eq!(plain, with_late);
    }

    #[test]
    fn no_time_is_too_early_or_too_late(
        times in prop::collection::vec(prop_oneof![
            Just(i64::MIN), Just(i64::MAX), Just(0), any::<i64>(), -10_000_000..10_000_000_i64,
        ], 1..12),
        happens in prop::collection::vec(happens(), 12),
    ) {
        let mut player = Player::new(default_rules().clone(), Mode::Plain);
        let rules = default_rules().of("");
        for (at_ms, happens) in times.iter().zip(&happens) {
            let report = report_at(&mut player, *at_ms, happens);
            let Player { lock, signals, .. } = &mut player;
            let Some((seen, reading, report)) = report else {
                let live_since_ms = Some(at_ms.wrapping_mul(3));
                let clock = Clock {
                    now_ms: *at_ms, live_since_ms, fleet_is_down: false, fleet_recovered_at_ms: None,
                };
                if let Some(lock) = lock {
                    lock.lapse(rules, &clock, signals);
                }
                continue;
            };
            let lock = lock.get_or_insert_with(|| Lock::new(&seen));
            lock.report(rules, reading, &report, &seen, signals);
            lock.is_forecast_due(rules, "", *at_ms);
            lock.take_hour(*at_ms, 0);
            lock.pass(rules, *at_ms, signals);
            lock.next_at_ms(rules);
            *lock = restarted(lock);
        }
        assert_well_formed(&player.signals);
    }

    #[test]
    fn silence_is_told_only_by_who_has_listened(
        steps in prop::collection::vec((0..75_000_i64, 0..12_u8), 1..200),
    ) {
        let rules = bolt::rules("[device_offline]\nsilent_s = 60\nhold_s = 20\nworse_after_s = 200");
        let mut player = Player::new(rules, Mode::Plain);
        let (mut at_ms, mut told) = (START_MS, Vec::new());
        for (later_ms, happens) in steps {
            at_ms += later_ms;
            let words: &[&str] = match happens {
                0 => &["live"],
                1 => &["blind"],
                2 => &["fleet", "down"],
                3 => &["fleet", "up"],
                4..8 => &["report"],
                _ => &["lapse"],
            };
            let before = player.lock.clone();
            player.happens(at_ms, words);
            if let Some(lock) = &mut player.lock {
                *lock = restarted(lock);
            }
            for signal in std::mem::take(&mut player.signals) {
                assert_fair(&player, before.as_ref().unwrap(), &signal, at_ms);
                told.push(signal);
            }
        }
        assert_well_formed(&told);
    }

    #[test]
    fn memory_of_a_newer_monitor_is_read(number in any::<u64>()) {
        let json = format!(r#"{{"process":{number},"raised":["tamper","burning"],"later":{{"a":[1]}}}}"#);
        let memory = Memory::read(json.as_bytes()).unwrap();
        prop_assert_eq!(memory.process, number);
        prop_assert!(memory.raised.contains(AlarmType::Tamper));
    }
}

/// Whether what is said of silence is true, and of the time in which somebody listened.
fn assert_fair(player: &Player, before: &Lock, signal: &Signal, now_ms: i64) {
    let Clock { live_since_ms, fleet_is_down, fleet_recovered_at_ms, .. } = player.clock;
    let fair_from_ms = live_since_ms.map(|since| since + 60_000).max(fleet_recovered_at_ms);
    let silent_ms = signal.at_ms - before.last_report_at_ms;
    assert!(signal.at_ms <= now_ms, "{signal:?}");
    let is_fair = match (signal.alarm, signal.what) {
        (AlarmType::DeviceOffline, What::Begin(_)) => {
            let listened = live_since_ms.is_some() && Some(signal.at_ms - 20_000) >= fair_from_ms;
            listened && !fleet_is_down && silent_ms >= 80_000 && !before.memory.raised.contains(signal.alarm)
        }
        (AlarmType::DeviceOffline, What::Worsen(_)) => {
            live_since_ms.is_some()
                && Some(signal.at_ms) >= fair_from_ms
                && !fleet_is_down
                && silent_ms >= 200_000
        }
        (AlarmType::DeviceFlapping, What::Begin(_)) => live_since_ms.is_some() && !fleet_is_down,
        (AlarmType::DeviceFlapping, What::End) => signal.at_ms >= before.online_since_ms + 600_000,
        (AlarmType::DeviceOffline, What::End) => before.online || player.lock.as_ref().unwrap().online,
        _ => false,
    };
    assert!(is_fair, "{signal:?} at {now_ms}, {before:?}");
}

/// A report that is late, or the last one again.
fn insert(player: &mut Player, happens: &Happens, earlier_ms: i64, invalid: bool) {
    let Some(lock) = player.lock.clone() else { return };
    let (payload_hash, signals) = (lock.memory.payload, player.signals.len());
    let offset = player.offset;
    let Some((_, reading, report)) = report_at(player, 0, happens) else { return };
    // It has taken no place in the time line.
    player.offset = offset;
    let late = Seen { at_ms: lock.last_report_at_ms - earlier_ms, offset: -1, dup: false, payload_hash };
    let again = Seen { at_ms: lock.last_report_at_ms + earlier_ms, offset: -1, dup: true, payload_hash };
    let (rules, now) = (player.rules.clone(), player.lock.as_mut().unwrap());
    for (seen, expected) in [(late, Outcome::Late), (again, Outcome::Duplicate)] {
        let outcome = match invalid {
            true => now.invalid(rules.of(""), &seen, &mut player.signals),
            false => now.report(rules.of(""), reading, &report, &seen, &mut player.signals),
        };
        assert_eq!((outcome, &*now, player.signals.len()), (expected, &lock, signals));
    }
}
