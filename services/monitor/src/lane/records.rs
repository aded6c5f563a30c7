//! What records do to the locks of a lane.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use latchline_shared::finding::FindingRecord;
use latchline_shared::kit::kafka::consumer::{Decoded, Record};
use latchline_shared::lock_state::Profiles;
use latchline_shared::text::bounded;
use serde_json::json;

use super::{Effects, Lane, Tally, locate};
use crate::lock::memory::Hour;
use crate::lock::{Outcome, Seen};
use crate::record::{Item, Reported};
use crate::rule::finding::{Finding, of_finding};
use crate::rule::forecast::forecast;
use crate::rule::result::hash;
use crate::signal::Place;
use crate::store::battery::{Series, day_of};

const HOUR_MS: i64 = 3_600_000;
/// Each lock has its own delay within this time: else all would write their hours in the minute after
/// the hour.
const HOURS_WITHIN_MS: u64 = 50 * 60_000;

impl Lane {
    /// Whose batteries may be looked at in this batch, each with the first day (since 1970) that
    /// counts.
    pub fn wanted<'a>(&self, batch: &'a [Decoded<Item>]) -> BTreeMap<&'a str, i32> {
        let mut wanted = BTreeMap::new();
        for Decoded { item, .. } in batch {
            let Item::Report(Reported { lock: id, at_ms, .. }) = item else { continue };
            // Of a lock that was never heard of, nothing is stored.
            let Some(index) = self.index.get(id.as_str()) else { continue };
            let rules = self.rules.of(id);
            if self.locks[*index].lock.is_forecast_due(rules, id, *at_ms) {
                let first = day_of(*at_ms) - i32::from(rules.battery_forecast.history_days);
                wanted.entry(id.as_str()).and_modify(|day: &mut i32| *day = first.min(*day)).or_insert(first);
            }
        }
        wanted
    }

    /// A record is read. `series` are the stored batteries of those that are [`wanted`](Lane::wanted).
    pub fn take(
        &mut self,
        profiles: &Profiles,
        decoded: &Decoded<Item>,
        series: &HashMap<Box<str>, Series>,
        effects: &mut Effects,
    ) {
        let Record { stream, partition, offset, .. } = &decoded.record;
        let place = Place { stream: Arc::clone(stream), partition: *partition, offset: *offset };
        match &decoded.item {
            Item::Report(reported) if !reported.is_of_one_lock => effects.tally.mismatched += 1,
            Item::Report(reported) => self.report(profiles, &place, reported, series, effects),
            Item::Finding(finding) => self.finding(&place, finding, effects),
        }
    }

    fn report(
        &mut self,
        profiles: &Profiles,
        place: &Place,
        reported: &Reported,
        series: &HashMap<Box<str>, Series>,
        effects: &mut Effects,
    ) {
        let Reported { lock: id, at_ms, is_dup, payload_hash, report, .. } = reported;
        let seen = Seen { at_ms: *at_ms, offset: place.offset, dup: *is_dup, payload_hash: *payload_hash };
        let index = self.of_report(id, &seen);
        self.newest_ms = self.newest_ms.max(Some(*at_ms));
        let before = self.place(index);
        let rules = Arc::clone(&self.rules);
        let rules = rules.of(id);
        let lock = &mut self.locks[index].lock;
        // Delays that end before it follow from the report before it, whoever notices.
        lock.pass(rules, *at_ms, &mut self.signals);
        let mut has_changed = !self.signals.is_empty();
        locate(id, &before, self.signals.drain(..), &mut effects.signals);
        let outcome = match report {
            Ok(report) => {
                let reading = profiles.of(id).read(report.lock_state);
                lock.report(rules, reading, report, &seen, &mut self.signals)
            }
            Err(_) => lock.invalid(rules, &seen, &mut self.signals),
        };
        effects.tally.count(outcome, *at_ms, report.is_ok());
        if outcome == Outcome::Applied {
            has_changed = true;
            if let Some(version) = report.as_ref().ok().and_then(|report| report.version.as_deref()) {
                self.keep_version(index, version);
            }
            self.battery(index, *at_ms, series);
        }
        locate(id, place, self.signals.drain(..), &mut effects.signals);
        if has_changed {
            self.change(index);
        }
    }

    fn keep_version(&mut self, index: usize, version: &str) {
        let is_same = |kept: &str| kept == version;
        if !self.locks[index].version.as_deref().is_some_and(is_same) {
            let version = self.shared(&bounded(version));
            self.locks[index].version = Some(version);
        }
    }

    /// Keeps hours that are over, and foretells once a day.
    fn battery(&mut self, index: usize, at_ms: i64, series: &HashMap<Box<str>, Series>) {
        let entry = &mut self.locks[index];
        let rules = self.rules.of(&entry.id);
        let delay_ms = (hash(&entry.id) % HOURS_WITHIN_MS) as i64;
        while let Some(Hour { day, hour, tenths }) = entry.lock.take_hour(at_ms, delay_ms) {
            let hours = self.days.entry((Arc::clone(&entry.id), day)).or_default();
            hours[usize::from(hour) % hours.len()] = Some(i16::try_from(tenths).unwrap_or(i16::MAX));
        }
        if !entry.lock.is_forecast_due(rules, &entry.id, at_ms) {
            return;
        }
        let rule = &rules.battery_forecast;
        let first = at_ms.div_euclid(HOUR_MS) - i64::from(rule.history_days) * 24;
        let stored = series.get(&*entry.id).into_iter().flatten().copied();
        let key = |day: i32| (Arc::clone(&entry.id), day);
        let fresh = self.days.range(key(i32::MIN)..=key(i32::MAX)).flat_map(|((_, day), hours)| {
            let midnight = i64::from(*day) * 24;
            let known = (midnight..).zip(hours);
            known.filter_map(|(hour, tenths)| Some((hour, f32::from((*tenths)?) / 10.0)))
        });
        let medians: Series = stored.chain(fresh).filter(|(hour, _)| *hour >= first).collect();
        entry.lock.forecast(rules, forecast(&medians, rule), at_ms, &mut self.signals);
    }

    fn finding(&mut self, place: &Place, record: &FindingRecord, effects: &mut Effects) {
        let last = self.findings.entry(record.chain_id).or_insert((i64::MIN, i64::MIN));
        // A history that began anew numbers its findings anew, but its time goes on.
        if record.seq <= last.0 && record.at <= last.1 {
            effects.tally.known_findings += 1;
            return;
        }
        *last = (record.seq, record.at.max(last.1));
        let id = bounded(&record.client_id);
        let value = value(record);
        let finding = Finding {
            kind: &record.kind,
            verdict: &record.verdict,
            findings: &record.findings,
            at_ms: record.at,
            value: &value,
        };
        let rules = Arc::clone(&self.rules);
        let rules = rules.of(&id);
        let index = self.index.get(id.as_str()).copied();
        let unknown = match index {
            Some(index) => self.locks[index].lock.finding(rules, &finding, &mut self.signals),
            None => of_finding(rules, &finding, &mut self.signals),
        };
        effects.tally.findings += 1;
        effects.tally.unknown_words += unknown as u64;
        let has_changed = !self.signals.is_empty();
        locate(&id, place, self.signals.drain(..), &mut effects.signals);
        if let Some(index) = index.filter(|_| has_changed) {
            self.change(index);
        }
    }
}

/// What people want to know of a finding.
fn value(record: &FindingRecord) -> serde_json::Value {
    let FindingRecord { kind, verdict, findings, process_id, action, publisher, receiver, .. } = record;
    json!({
        "kind": kind, "verdict": verdict, "findings": findings, "process_id": process_id, "action": action,
        "publisher": publisher, "receiver": receiver, "username": record.username, "reason": record.reason,
        "chain_id": record.chain_id, "seq": record.seq,
    })
}

impl Tally {
    fn count(&mut self, outcome: Outcome, at_ms: i64, is_readable: bool) {
        match outcome {
            Outcome::Applied => {
                self.applied.push(at_ms);
                self.unreadable += u64::from(!is_readable);
            }
            Outcome::Late => self.late += 1,
            Outcome::Duplicate => self.duplicate += 1,
        }
    }
}
