//! The open alarms of some locks in memory, as they become while signals and acts are applied in
//! order. Pure: what is loaded before and written after is the store's.
//!
//! Invariant: what is here after some signals is what would be loaded after they were written, so it
//! makes no difference where batches end.

use std::collections::BTreeMap;

use latchline_shared::alarm::{AlarmType, Severity};
use latchline_shared::kit::outbox::Message;
use serde_json::{Value, json};

use super::lifecycle::{self, Act, By, Illegal, Raise};
use super::replay::Written;
use super::silence::Silence;
use super::suppression::{self, Suppressed};
use super::{Alarm, Applied, Context, Event, MONITOR, announce, schedule};
use crate::signal::{Located, Place, What};

/// Open alarms, and what has become of them.
#[derive(Debug)]
pub struct Desk<'a> {
    pub(super) context: &'a Context,
    silences: Vec<Silence>,
    is_fleet_down: bool,
    /// Nobody could have taken on an alarm before.
    live_ms: i64,
    /// In a rebuild: what was written down says why nobody should be told.
    written: Option<&'a Written>,
    /// In the order in which they came.
    pub(super) rows: Vec<Entry>,
    /// Where the open ones are.
    open: BTreeMap<String, BTreeMap<AlarmType, usize>>,
    /// In the order in which they happened.
    pub(super) events: Vec<Event>,
    /// Records of them.
    pub(super) messages: Vec<Message>,
    /// Those for the webhook.
    pub(super) alerts: Vec<Value>,
    idle: u64,
}

/// An alarm.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) alarm: Alarm,
    pub(super) is_new: bool,
    pub(super) is_changed: bool,
}

impl<'a> Desk<'a> {
    /// With these open alarms: all that some locks have.
    pub fn new(context: &'a Context, open: Vec<Alarm>, silences: Vec<Silence>, is_fleet_down: bool) -> Self {
        let mut desk = Self {
            context,
            silences,
            is_fleet_down,
            live_ms: i64::MIN,
            written: None,
            rows: Vec::with_capacity(open.len()),
            open: BTreeMap::new(),
            events: Vec::new(),
            messages: Vec::new(),
            alerts: Vec::new(),
            idle: 0,
        };
        for alarm in open {
            desk.put(alarm, false);
        }
        desk
    }

    /// For what happened once already, as it was written down.
    pub(super) fn repeating(context: &'a Context, open: Vec<Alarm>, written: &'a Written) -> Self {
        Self { written: Some(written), ..Self::new(context, open, Vec::new(), false) }
    }

    /// Nobody could have taken on an alarm before this time, at which the last lane has caught up.
    pub(super) fn live_since(self, live_ms: i64) -> Self {
        Self { live_ms, ..self }
    }

    /// What was done.
    pub fn applied(&self) -> Applied {
        Applied::of(&self.events, self.idle)
    }

    /// A condition changed.
    pub fn signal(&mut self, located: &Located) {
        let Located { client_id, place, signal } = located;
        let by =
            By { origin: signal.origin, actor: MONITOR, cause: cause(place), value: Some(&signal.value) };
        match self.open.get(client_id).and_then(|alarms| alarms.get(&signal.alarm)) {
            Some(index) => {
                // Signals are legal for whatever is open.
                if let Ok(None) | Err(_) = self.act(*index, signal.what.into(), signal.at_ms, by) {
                    self.idle += u64::from(signal.what != What::Hold);
                }
            }
            None => match signal.what {
                // Worse than what somebody has ended is something new.
                What::Begin(severity) | What::Worsen(severity) => self.raise(located, severity, true, by),
                What::Occur(severity) => self.raise(located, severity, false, by),
                // Somebody has ended the alarm already.
                What::Hold | What::End => self.idle += 1,
            },
        }
    }

    /// Somebody, or the clock, does something to the alarm of this index.
    pub(super) fn act(
        &mut self,
        index: usize,
        act: Act,
        at_ms: i64,
        by: By<'_>,
    ) -> Result<Option<&Event>, Illegal> {
        let at_ms = self.rows[index].alarm.ordered(at_ms);
        // Taken out for as long as the others are looked at.
        let mut alarm = self.rows[index].alarm.clone();
        let had_condition = alarm.condition;
        let event =
            lifecycle::transition(&mut alarm, act, at_ms, by, |alarm| self.why_not_told(alarm, at_ms))?;
        let has_ended = had_condition && !alarm.condition;
        let entry = &mut self.rows[index];
        // Without an event: seen once more.
        entry.is_changed |= event.is_some() || had_condition;
        entry.alarm = alarm;
        let Some(event) = event else { return Ok(None) };
        self.happened(index, event);
        if has_ended {
            self.look_at_inhibited(index, at_ms);
        }
        Ok(self.events.last())
    }

    /// The alarm of this index, which is that of its place among those that were loaded.
    pub(super) fn alarm(&self, index: usize) -> &Alarm {
        &self.rows[index].alarm
    }

    /// What is due of the alarm of this index.
    pub(super) fn due(&self, index: usize, at_ms: i64) -> Option<Act> {
        let alarm = &self.rows[index].alarm;
        let suppressed = self.why_not_told(alarm, at_ms);
        schedule::due(alarm, at_ms, &self.context.timing, self.live_ms, suppressed)
    }

    /// Somebody has looked at the alarm: says when to look at it next.
    pub(super) fn look_again(&mut self, index: usize, at_ms: i64) {
        let suppressed = self.why_not_told(&self.rows[index].alarm, at_ms);
        let entry = &mut self.rows[index];
        entry.alarm.look_at_ms =
            schedule::look_at(&entry.alarm, at_ms, &self.context.timing, self.live_ms, suppressed);
        entry.is_changed = true;
    }

    /// Why nobody should be told of this alarm.
    pub(super) fn why_not_told(&self, alarm: &Alarm, at_ms: i64) -> Option<Suppressed> {
        if let Some(written) = self.written {
            return written.suppressed(alarm);
        }
        let of_lock = self.open.get(&alarm.client_id);
        let holds = |other: AlarmType| {
            of_lock
                .and_then(|alarms| alarms.get(&other))
                .is_some_and(|index| self.rows[*index].alarm.condition)
        };
        suppression::of(alarm, at_ms, &self.silences, holds, self.is_fleet_down)
    }

    fn raise(&mut self, located: &Located, severity: Severity, holds: bool, by: By<'_>) {
        let Located { client_id, place, signal } = located;
        let raise = Raise { client_id, alarm_type: signal.alarm, severity, holds, place };
        let (alarm, event) =
            lifecycle::raise(raise, signal.at_ms, by, |alarm| self.why_not_told(alarm, signal.at_ms));
        let index = self.put(alarm, true);
        self.happened(index, event);
    }

    fn put(&mut self, alarm: Alarm, is_new: bool) -> usize {
        let index = self.rows.len();
        self.open.entry(alarm.client_id.clone()).or_default().insert(alarm.alarm_type, index);
        self.rows.push(Entry { alarm, is_new, is_changed: is_new });
        index
    }

    /// Keeps an event and what tells of it, and says when the alarm is looked at next.
    fn happened(&mut self, index: usize, event: Event) {
        let suppressed = self.why_not_told(&self.rows[index].alarm, event.at_ms);
        let alarm = &mut self.rows[index].alarm;
        alarm.look_at_ms =
            schedule::look_at(alarm, event.at_ms, &self.context.timing, self.live_ms, suppressed);
        if self.context.outbox.is_some() {
            self.messages.push(announce::message(alarm, &event));
        }
        if self.context.webhook {
            self.alerts.extend(announce::alert(alarm, &event));
        }
        if !alarm.is_open()
            && let Some(alarms) = self.open.get_mut(&alarm.client_id)
            && alarms.get(&alarm.alarm_type) == Some(&index)
        {
            alarms.remove(&alarm.alarm_type);
        }
        self.events.push(event);
    }

    /// What an alarm kept from being told may be told now.
    fn look_at_inhibited(&mut self, index: usize, at_ms: i64) {
        let Alarm { client_id, alarm_type, .. } = &self.rows[index].alarm;
        let alarm_type = *alarm_type;
        let others: Vec<usize> =
            self.open.get(client_id).into_iter().flat_map(|alarms| alarms.values().copied()).collect();
        for other in others {
            let Entry { alarm, is_changed, .. } = &mut self.rows[other];
            if alarm.alarm_type.inhibited_by().contains(&alarm_type)
                && alarm.look_at_ms.is_some_and(|look_at_ms| look_at_ms > at_ms)
            {
                alarm.look_at_ms = Some(at_ms);
                *is_changed = true;
            }
        }
    }
}

/// Why, for people: the record.
fn cause(place: &Place) -> Value {
    let Place { stream, partition, offset } = place;
    if stream.is_empty() {
        return json!({});
    }
    json!({ "stream": &**stream, "partition": partition, "offset": offset })
}
