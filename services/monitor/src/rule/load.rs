//! The document of thresholds: the default, what a file changes for all locks, and what it changes
//! for some.
//!
//! Whatever is wrong is found at once, each problem with its path. A document with a problem is
//! refused as a whole.

use std::path::Path;

use latchline_shared::kit::config::{self, Problems, Validate};
use latchline_shared::lock_state::Pattern;
use serde::Deserialize;
use toml::{Table, Value};

use super::threshold::{Fleet, RuleSet};

/// The default document.
pub const DEFAULT_TOML: &str = include_str!("../../../../config/monitor-rules.toml");

/// Prefix of environment variables; none are read.
const ENV_PREFIX: &str = "LATCHLINE_MONITOR_RULES";

/// Tables that are about all locks at once.
const NOT_BY_LOCK: [&str; 2] = ["fleet_connectivity", "security"];

/// Thresholds, by lock.
#[derive(Debug, Clone)]
pub struct Rules {
    base: RuleSet,
    overrides: Vec<Override>,
}

#[derive(Debug, Clone)]
struct Override {
    locks: Vec<Pattern>,
    rules: RuleSet,
}

impl Rules {
    /// The default, changed by a file if there is one.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        let document: Document = config::load(DEFAULT_TOML, file, ENV_PREFIX, std::iter::empty())?;
        Ok(document.0)
    }

    /// What [`Rules::load`] would return, as a document.
    pub fn effective(file: Option<&Path>) -> Result<String, Problems> {
        config::effective::<Document>(DEFAULT_TOML, file, ENV_PREFIX, std::iter::empty())
    }

    /// As [`Rules::load`], with the document that [`Rules::effective`] writes. Both are of the same
    /// file, even if it changes meanwhile.
    pub fn read(file: Option<&Path>) -> Result<(Self, Table), Problems> {
        let text = Self::effective(file)?;
        let document: Document = config::load(&text, None, ENV_PREFIX, std::iter::empty())?;
        let table = toml::from_str(&text).map_err(|error| Problems(vec![error.to_string()]))?;
        Ok((document.0, table))
    }

    /// Thresholds of a lock.
    pub fn of(&self, lock_id: &str) -> &RuleSet {
        let matching = self.overrides.iter().flat_map(|one| {
            let locks = one.locks.iter().filter(|pattern| pattern.matches(lock_id));
            locks.map(|pattern| (pattern.length(), &one.rules))
        });
        matching.max_by_key(|(length, _)| *length).map_or(&self.base, |(_, rules)| rules)
    }

    /// Thresholds of the fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.base.fleet_connectivity
    }

    /// Thresholds of a lock that is not listed, and those that are not by lock.
    pub fn base(&self) -> &RuleSet {
        &self.base
    }
}

/// A document that fits the types.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Table")]
struct Document(Rules);

impl TryFrom<Table> for Document {
    type Error = String;

    fn try_from(mut document: Table) -> Result<Self, String> {
        let Some(Value::Array(list)) = document.remove("override") else {
            return Err("override: is not a list".to_owned());
        };
        let rules = RuleSet::deserialize(document.clone()).map_err(|error| error.message().to_owned())?;
        let mut overrides = Vec::new();
        let mut problems = Vec::new();
        for (index, value) in list.into_iter().enumerate() {
            match read_override(&document, value) {
                Ok(one) => overrides.push(one),
                Err(wrong) => problems.extend(wrong.iter().map(|problem| format!("[{index}]{problem}"))),
            }
        }
        if problems.is_empty() {
            Ok(Self(Rules { base: rules.complete(), overrides }))
        } else {
            Err(problems.join("\n"))
        }
    }
}

impl Validate for Document {
    fn problems(&self, problems: &mut Vec<String>) {
        self.0.base.problems("", problems);
        for (index, one) in self.0.overrides.iter().enumerate() {
            let mut own = Vec::new();
            one.rules.problems(&format!("override[{index}]."), &mut own);
            problems.extend(own);
        }
    }
}

/// One element of the list; each problem begins with its path in the element.
fn read_override(base: &Table, value: Value) -> Result<Override, Vec<String>> {
    let Value::Table(mut tables) = value else { return Err(vec![": is not a table".to_owned()]) };
    let mut problems = Vec::new();
    let locks = match tables.remove("locks").map(Vec::<Pattern>::deserialize) {
        Some(Ok(locks)) if !locks.is_empty() => locks,
        _ => {
            problems.push(".locks: must be a list of ids, with * at the end of how they begin".to_owned());
            Vec::new()
        }
    };
    let mut merged = base.clone();
    for (name, keys) in tables {
        merge_table(base, &mut merged, &name, keys, &mut problems);
    }
    let rules = RuleSet::deserialize(merged);
    match (problems.is_empty(), rules) {
        (true, Ok(rules)) => Ok(Override { locks, rules: rules.complete() }),
        (true, Err(error)) => Err(vec![format!(": {}", error.message())]),
        (false, _) => Err(problems),
    }
}

/// Lays the keys of one table over the default's, each alone, so that each that is wrong is named.
fn merge_table(base: &Table, merged: &mut Table, name: &str, keys: Value, problems: &mut Vec<String>) {
    let known = base.get(name).and_then(Value::as_table);
    let (Some(known), false) = (known, NOT_BY_LOCK.contains(&name)) else {
        return problems.push(format!(".{name}: is no table that can be overridden"));
    };
    let Value::Table(keys) = keys else { return problems.push(format!(".{name}: is not a table")) };
    for (key, value) in keys {
        if !known.contains_key(&key) {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            problems.push(format!(".{name}.{key}: unknown key, known here: {}", known.join(", ")));
            continue;
        }
        let mut alone = base.clone();
        for document in [&mut alone, &mut *merged] {
            if let Some(Value::Table(table)) = document.get_mut(name) {
                table.insert(key.clone(), value.clone());
            }
        }
        if let Err(error) = RuleSet::deserialize(alone) {
            problems.push(format!(".{name}.{key}: {}", error.message()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use latchline_shared::alarm::{AlarmType, Severity};

    use super::*;

    fn load(text: &str) -> Result<Rules, Vec<String>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        Rules::load(Some(file.path())).map_err(|Problems(problems)| {
            problems.iter().map(|problem| problem.replace(&format!("{path}: "), "")).collect()
        })
    }

    fn problems(text: &str) -> Vec<String> {
        load(text).unwrap_err()
    }

    #[test]
    fn the_default_document_is_valid_and_has_no_needless_keys() {
        let rules = Rules::load(None).unwrap();
        assert!(rules.base().off().is_empty(), "nothing is switched off");
        assert_eq!(config::needless_keys::<Document>(DEFAULT_TOML), Ok(Vec::new()));
    }

    #[test]
    fn a_file_changes_what_it_names() {
        let rules = load("[lock_fault]\nseverity = \"off\"\n[stuck_moving]\ndelay_s = 20").unwrap();
        let set = rules.of("any");
        assert_eq!((set.severity(AlarmType::LockFault), set.is_on(AlarmType::LockFault)), (None, false));
        assert_eq!(set.stuck_moving.delay_ms, 20_000);
        assert_eq!(set.severity(AlarmType::StuckMoving), Some(Severity::Major));
    }

    #[test]
    fn the_longest_pattern_tells_the_thresholds() {
        let text = r#"
            [stuck_moving]
            delay_s = 20
            [[override]]
            locks = ["ab*", "x"]
            stuck_moving.delay_s = 30
            lock_fault.severity = "off"
            [[override]]
            locks = ["abc*"]
            stuck_moving = { delay_s = 40 }
        "#;
        let rules = load(text).unwrap();
        for (lock, delay_s, is_on) in
            [("z", 20, true), ("ab", 30, false), ("x", 30, false), ("xy", 20, true), ("abcd", 40, true)]
        {
            let set = rules.of(lock);
            let found = (set.stuck_moving.delay_ms, set.is_on(AlarmType::LockFault));
            assert_eq!(found, (delay_s * 1_000, is_on), "{lock}");
        }
    }

    #[test]
    fn all_problems_are_found_at_once_with_their_paths() {
        let text = r#"
            [battery_low]
            raise_percent = "low"
            colour = 1
            [battery_critical]
            end_percent = 9.0
            [fire]
            delay_s = 1
            [tamper]
            severity = "terrible"
        "#;
        let found = problems(text);
        let expected = [
            "battery_low.colour: unknown key",
            "fire: unknown key",
            "battery_low.raise_percent: invalid type",
            "tamper.severity: `terrible` is none of warning, minor, major, critical, off",
            "battery_critical.end_percent: must be more than battery_critical.raise_percent",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for problem in expected {
            assert!(found.iter().any(|found| found.starts_with(problem)), "{problem}: {found:#?}");
        }
    }

    #[test]
    fn problems_of_overrides_have_their_paths() {
        let text = r#"
            [[override]]
            locks = []
            battery_low.raise_percent = "low"
            battery_low.colour = 1
            fleet_connectivity.lost_max = 1
            fire.delay_s = 1
            tamper = "off"
            [[override]]
            tamper.severity = 1
        "#;
        let found = problems(text);
        let expected = [
            "override[0].locks: must be a list of ids",
            "override[0].battery_low.raise_percent: invalid type",
            "override[0].battery_low.colour: unknown key",
            "override[0].fleet_connectivity: is no table that can be overridden",
            "override[0].fire: is no table that can be overridden",
            "override[0].tamper: is not a table",
            "override[1].locks: must be a list of ids",
            "override[1].tamper.severity: invalid type",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for problem in expected {
            assert!(found.iter().any(|found| found.starts_with(problem)), "{problem}: {found:#?}");
        }
        let text = "[[override]]\nlocks = [\"a\"]\nbattery_low.end_percent = 1.0";
        let expected =
            "override[0].battery_low.end_percent: must be more than override[0].battery_low.raise_percent";
        assert_eq!(problems(text), [expected]);
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        for (table, key, value) in [
            ("battery_low", "raise_percent", "-1.0"),
            ("battery_low", "end_percent", "100.1"),
            ("battery_low", "end_percent", "20.0"),
            ("battery_critical", "raise_percent", "nan"),
            ("battery_critical", "raise_reports", "0"),
            ("battery_critical", "end_reports", "0"),
            ("battery_forecast", "raise_days", "0.0"),
            ("battery_forecast", "end_days", "14.0"),
            ("battery_forecast", "empty_percent", "101.0"),
            ("battery_forecast", "history_days", "2"),
            ("battery_forecast", "new_points", "0.0"),
            ("battery_forecast", "hours_min", "0"),
            ("battery_forecast", "medians_min", "1"),
            ("battery_forecast", "slope_min", "-0.1"),
            ("battery_forecast", "r2_min", "1.1"),
            ("battery_drop", "fall_points", "0.0"),
            ("not_fully_locked", "delay_s", "0"),
            ("not_fully_locked", "delay_s", "-1"),
            ("stuck_moving", "delay_s", "0"),
            ("left_unlocked", "delay_s", "0"),
            ("left_unlocked", "worse_after_s", "600"),
            ("left_unlocked", "worse_severity", "\"off\""),
            ("left_unlocked", "severity", "\"critical\""),
            ("state_unknown", "raise_reports", "0"),
            ("door_ajar", "delay_s", "0"),
            ("device_offline", "silent_s", "0"),
            ("device_offline", "worse_after_s", "240"),
            ("device_offline", "severity", "\"critical\""),
            ("device_offline", "end_reports", "0"),
            ("device_flapping", "edges_min", "1"),
            ("device_flapping", "edges_min", "33"),
            ("device_flapping", "window_s", "0"),
            ("invalid_report", "raise_reports", "0"),
            ("invalid_report", "raise_reports", "33"),
            ("invalid_report", "window_s", "0"),
            ("invalid_report", "end_reports", "0"),
            ("fleet_connectivity", "lost_percent", "101.0"),
            ("fleet_connectivity", "window_s", "0"),
            ("fleet_connectivity", "partition_silent_s", "0"),
            ("fleet_connectivity", "end_percent", "21.0"),
            ("security", "replay", "\"none\""),
        ] {
            let found = problems(&format!("[{table}]\n{key} = {value}"));
            assert!(found.iter().all(|problem| problem.contains(&format!("{table}."))), "{key} {found:?}");
        }
    }
}
