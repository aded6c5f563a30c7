//! Time lines: what happened to a lock and what was said of it, as text that people can read.
//!
//! A line is a time (`12`, `1:30`, `1:00:00`: seconds, minutes, hours) and what happened; lines that
//! begin with `->` are the signals that follow. Each time line is played once as it stands, once
//! with a restart after each line, and once looked at in between all the time: it must not matter.

mod battery;
mod bolt;
mod door;
mod intake;
mod presence;
mod properties;
mod random;

use std::fmt::Write;
use std::sync::LazyLock;

use latchline_shared::alarm::AlarmType;
use latchline_shared::lock_state::{LockState, Reading};
use latchline_shared::report::{Report, Said};
use serde_json::Value;

use super::memory::Memory;
use super::{Lock, Outcome, Seen};
use crate::rule::finding::Finding;
use crate::rule::forecast::Forecast;
use crate::rule::load::Rules;
use crate::rule::presence::Clock;
use crate::signal::{Signal, What};

/// Midnight of some day.
const START_MS: i64 = 19_700 * 86_400_000;

/// The default thresholds.
fn default_rules() -> &'static Rules {
    static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::load(None).unwrap());
    &RULES
}

/// Plays a time line with the default thresholds.
fn check(expected: &str) {
    check_with(default_rules(), expected);
}

fn check_with(rules: &Rules, expected: &str) {
    let lines: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for mode in [Mode::Plain, Mode::Restarts, Mode::Looks] {
        let mut player = Player::new(rules.clone(), mode);
        let mut played = String::new();
        for line in lines.iter().filter(|line| !line.starts_with("->")) {
            writeln!(played, "{line}").unwrap();
            for signal in player.line(line) {
                writeln!(played, "{}", shown(&signal)).unwrap();
            }
        }
        assert_eq!(played.trim(), lines.join("\n"), "{mode:?}");
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Restarts,
    Looks,
}

/// A lock, and the clock of its lane.
struct Player {
    rules: Rules,
    mode: Mode,
    lock: Option<Lock>,
    clock: Clock,
    offset: i64,
    signals: Vec<Signal>,
    /// Up to when it was looked at.
    looked_ms: i64,
}

impl Player {
    fn new(rules: Rules, mode: Mode) -> Self {
        let clock =
            Clock { now_ms: 0, live_since_ms: None, fleet_is_down: false, fleet_recovered_at_ms: None };
        Self { rules, mode, lock: None, clock, offset: 0, signals: Vec::new(), looked_ms: START_MS }
    }

    fn line(&mut self, line: &str) -> Vec<Signal> {
        let (time, what) = line.split_once(char::is_whitespace).unwrap();
        let at_ms = START_MS + milliseconds(time);
        let words: Vec<&str> = what.split_whitespace().collect();
        if self.mode == Mode::Looks && words[0] != "finding" {
            self.look(at_ms);
        }
        self.looked_ms = at_ms;
        self.happens(at_ms, &words);
        if let (Mode::Restarts, Some(lock)) = (self.mode, &mut self.lock) {
            *lock = restarted(lock);
        }
        std::mem::take(&mut self.signals)
    }

    fn happens(&mut self, at_ms: i64, words: &[&str]) {
        let rules = self.rules.clone();
        let rules = rules.of("");
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        match words[0] {
            "report" => self.report(at_ms, words),
            "live" => self.clock.live_since_ms = Some(at_ms),
            "blind" => self.clock.live_since_ms = None,
            "fleet" => {
                self.clock.fleet_is_down = words[1] == "down";
                self.clock.fleet_recovered_at_ms = (words[1] == "up").then_some(at_ms);
            }
            "invalid" => {
                let seen = self.seen(at_ms, words);
                let lock = self.lock.get_or_insert_with(|| Lock::new(&seen));
                assert_eq!(lock.invalid(rules, &seen, &mut self.signals), Outcome::Applied);
            }
            "pass" => {
                let Some(lock) = &mut self.lock else { return };
                pass(lock, &self.rules, at_ms, &mut self.signals);
            }
            "lapse" => {
                let clock = Clock { now_ms: at_ms, ..self.clock };
                let Some(lock) = &mut self.lock else { return };
                lapse(lock, &self.rules, &clock, &mut self.signals);
            }
            "finding" => {
                let findings: Vec<String> = value("findings").iter().map(|word| (*word).to_owned()).collect();
                let (kind, verdict) = (value("kind").unwrap(), value("verdict").unwrap_or_default());
                let finding = Finding { kind, verdict, findings: &findings, at_ms, value: &Value::Null };
                assert_eq!(self.lock.as_mut().unwrap().finding(rules, &finding, &mut self.signals), 0);
            }
            "forecast" => {
                let forecast = value("days").map(|days| Forecast {
                    days: days.parse().unwrap(),
                    slope_per_day: -0.5,
                    r2: 0.9,
                });
                self.lock.as_mut().unwrap().forecast(rules, forecast, at_ms, &mut self.signals);
            }
            other => panic!("{other}"),
        }
    }

    fn report(&mut self, at_ms: i64, words: &[&str]) {
        let seen = self.seen(at_ms, words);
        let (reading, report) = report_of(words);
        let rules = self.rules.of("");
        let lock = self.lock.get_or_insert_with(|| Lock::new(&seen));
        let expected = match words.last() {
            Some(&"late") => Outcome::Late,
            Some(&"duplicate") => Outcome::Duplicate,
            _ => Outcome::Applied,
        };
        let before = lock.clone();
        assert_eq!(lock.report(rules, reading, &report, &seen, &mut self.signals), expected, "{words:?}");
        assert!(expected == Outcome::Applied || *lock == before, "{words:?}");
    }

    fn seen(&mut self, at_ms: i64, words: &[&str]) -> Seen {
        self.offset += 1;
        let hash = words.iter().find_map(|word| word.strip_prefix("hash=")).map(|hash| hash.parse().unwrap());
        let payload_hash = hash.unwrap_or(u64::MAX - self.offset as u64);
        Seen { at_ms, offset: self.offset, dup: words.contains(&"dup"), payload_hash }
    }

    /// Looks at the lock from the last line to this one, as idle lanes do.
    fn look(&mut self, until_ms: i64) {
        let Some(lock) = &mut self.lock else { return };
        for part in 1..=7 {
            let at_ms = self.looked_ms + (until_ms - self.looked_ms) * part / 7;
            pass(lock, &self.rules, at_ms, &mut self.signals);
        }
    }
}

/// As `Lock::pass`, and proves that it does nothing before its time.
fn pass(lock: &mut Lock, rules: &Rules, until_ms: i64, signals: &mut Vec<Signal>) {
    let rules = rules.of("");
    let (before, count, next_at_ms) = (lock.clone(), signals.len(), lock.next_at_ms(rules));
    lock.pass(rules, until_ms, signals);
    assert!(until_ms >= next_at_ms || (*lock == before && signals.len() == count), "{before:?}");
    assert!(
        lock.next_at_ms(rules) > until_ms || !lock.online || lock.memory.rare.is_some() || {
            // Only silence is left, which needs a clock.
            lock.last_report_at_ms + rules.device_offline.silent_ms <= until_ms
        }
    );
}

/// As `Lock::lapse`, and proves that it does nothing before its time.
fn lapse(lock: &mut Lock, rules: &Rules, clock: &Clock, signals: &mut Vec<Signal>) {
    let rules = rules.of("");
    let (before, count, next_at_ms) = (lock.clone(), signals.len(), lock.next_at_ms(rules));
    let changed = lock.lapse(rules, clock, signals);
    assert!(clock.now_ms >= next_at_ms || (*lock == before && signals.len() == count), "{before:?}");
    assert_eq!(changed, lock.online != before.online);
    assert!(*lock == before || changed || signals.len() > count, "what changed must be seen");
}

/// The lock as it is read from its row.
fn restarted(lock: &Lock) -> Lock {
    let mut json = Vec::new();
    lock.memory.write(&mut json);
    let memory = Memory::read(&json).unwrap();
    assert_eq!(memory, lock.memory, "{}", String::from_utf8(json).unwrap());
    Lock { memory, ..lock.clone() }
}

/// A report: `state=unlocked battery=20 process=p action=unlock result=failed door=3 alarm=6 boot=1
/// seq=2 flaw`. It is a heartbeat of a lock that is locked but for what is said.
fn report_of(words: &[&str]) -> (Reading, Report) {
    let text = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    let number = |key| text(key).map(|number| number.parse::<i64>().unwrap());
    let state = LockState::from_name(text("state").unwrap_or("locked")).unwrap();
    let report = Report {
        process_id: text("process").unwrap_or_default().to_owned(),
        action: text("action").unwrap_or("unlock").to_owned(),
        battery: text("battery").map(|battery| battery.parse().unwrap()),
        lock_state: LockState::ALL.iter().position(|one| *one == state).unwrap() as i64,
        version: None,
        client_id: String::new(),
        result: text("result").map(|said| Said::from_name(said).unwrap()),
        error: None,
        source: None,
        door_state: number("door"),
        alarm: number("alarm"),
        seq: number("seq").map(|seq| seq as u64),
        boot: number("boot").map(|boot| boot as u64),
        flaws: if words.contains(&"flaw") { vec!["battery"] } else { vec![] },
    };
    (Reading { state, known: true }, report)
}

/// A signal as time lines show it.
fn shown(signal: &Signal) -> String {
    let what = match signal.what {
        What::Begin(severity) => format!("begin {severity}"),
        What::Occur(severity) => format!("occur {severity}"),
        What::Worsen(severity) => format!("worsen {severity}"),
        What::Hold => "hold".to_owned(),
        What::End => "end".to_owned(),
    };
    let clock = if signal.origin == latchline_shared::alarm::Origin::Clock { " (clock)" } else { "" };
    format!("-> {} {} {what}{clock}", time(signal.at_ms - START_MS), signal.alarm)
}

fn milliseconds(time: &str) -> i64 {
    let parts = time.split(':').map(|part| part.parse::<f64>().unwrap());
    (parts.fold(0.0, |sum, part| sum * 60.0 + part) * 1_000.0).round() as i64
}

fn time(ms: i64) -> String {
    let (seconds, rest) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}") };
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}{fraction}"),
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}{fraction}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}{fraction}"),
    }
}

/// Whether the signals of each condition are in order: none twice, none without a begin.
fn assert_well_formed(signals: &[Signal]) {
    for alarm in AlarmType::ALL {
        let mut holds = false;
        for signal in signals.iter().filter(|signal| signal.alarm == *alarm) {
            match signal.what {
                What::Begin(_) => assert!(!std::mem::replace(&mut holds, true), "{signals:#?}"),
                What::Worsen(_) | What::Hold => assert!(holds, "{signals:#?}"),
                // The first result of a lock ends what may have been found before it was known.
                What::End => assert!(
                    std::mem::take(&mut holds) || *alarm == AlarmType::CommandNoResult,
                    "{signals:#?}"
                ),
                What::Occur(_) => assert!(alarm.is_momentary(), "{signals:#?}"),
            }
        }
    }
}
