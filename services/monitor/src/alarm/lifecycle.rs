//! The life of an alarm: what may happen to it in which state, and what that makes of it. Pure.
//!
//! An alarm is **active** until somebody acknowledges it. When its condition is over it is
//! **cleared** if nobody had, else **closed**. A latched one stays active when its condition is
//! over: only people end it.
//!
//! Invariants: an illegal act leaves the alarm as it was; a closed alarm takes comments and nothing
//! else; acknowledged means that the condition holds; whoever is not to be told is not.

use latchline_shared::alarm::{AlarmType, Change, Origin, Severity, State};
use serde_json::Value;

use super::suppression::Suppressed;
use super::{Alarm, Event, id};
use crate::signal::{Place, What};

/// What happens to an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The condition began.
    Begin(Severity),
    /// The condition was there for a moment.
    Occur(Severity),
    /// The condition is worse.
    Worsen(Severity),
    /// The condition still holds, with another value.
    Hold,
    /// The condition is over.
    End,
    /// Somebody takes it on.
    Acknowledge,
    /// Somebody gives it back.
    Unacknowledge,
    /// Somebody does not want to hear of it for a while.
    Shelve {
        /// The end of that while, in Unix milliseconds.
        until_ms: i64,
    },
    /// That while is over.
    Unshelve,
    /// Somebody ends it.
    Clear,
    /// Somebody writes something.
    Comment,
    /// Nobody took it on in time.
    Escalate,
    /// It is told again, or at last.
    Announce,
    /// Nobody acknowledged it for long after its condition was over.
    Expire,
}

impl Act {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Begin(_) => "begin",
            Self::Occur(_) => "occur",
            Self::Worsen(_) => "worsen",
            Self::Hold => "hold",
            Self::End => "end",
            Self::Acknowledge => "acknowledge",
            Self::Unacknowledge => "unacknowledge",
            Self::Shelve { .. } => "shelve",
            Self::Unshelve => "unshelve",
            Self::Clear => "clear",
            Self::Comment => "comment",
            Self::Escalate => "escalate",
            Self::Announce => "announce",
            Self::Expire => "expire",
        }
    }
}

impl From<What> for Act {
    fn from(what: What) -> Self {
        match what {
            What::Begin(severity) => Self::Begin(severity),
            What::Occur(severity) => Self::Occur(severity),
            What::Worsen(severity) => Self::Worsen(severity),
            What::Hold => Self::Hold,
            What::End => Self::End,
        }
    }
}

/// An act that an alarm does not take as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{act} is not possible while the alarm is {state}")]
pub struct Illegal {
    /// The act's word.
    pub act: &'static str,
    /// Where the alarm stands.
    pub state: State,
}

/// Who acts, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct By<'a> {
    /// What it is.
    pub origin: Origin,
    /// Who.
    pub actor: &'a str,
    /// Why.
    pub cause: Value,
    /// The value that was looked at, if one was.
    pub value: Option<&'a Value>,
}

/// What an alarm is raised for.
#[derive(Debug, Clone, Copy)]
pub struct Raise<'a> {
    /// The lock.
    pub client_id: &'a str,
    /// What is wrong.
    pub alarm_type: AlarmType,
    /// How bad it is.
    pub severity: Severity,
    /// Whether the condition holds on; else it was there for a moment.
    pub holds: bool,
    /// The record.
    pub place: &'a Place,
}

/// Raises an alarm. `suppressed` says why nobody should be told of it.
pub fn raise(
    raise: Raise<'_>,
    at_ms: i64,
    by: By<'_>,
    suppressed: impl Fn(&Alarm) -> Option<Suppressed>,
) -> (Alarm, Event) {
    let mut alarm = Alarm {
        id: id::alarm(raise.client_id, raise.alarm_type, at_ms, raise.place),
        client_id: raise.client_id.to_owned(),
        alarm_type: raise.alarm_type,
        severity: raise.severity,
        state: State::Active,
        condition: raise.holds,
        raised_at_ms: at_ms,
        last_at_ms: at_ms,
        cleared_at_ms: (!raise.holds).then_some(at_ms),
        closed_at_ms: None,
        acked_at_ms: None,
        acked_by: None,
        shelved_until_ms: None,
        count: 1,
        value: by.value.cloned().unwrap_or_default(),
        level: 0,
        announced_at_ms: None,
        told: false,
        changed_at_ms: at_ms,
        look_at_ms: None,
        no: 0,
    };
    let suppressed = suppressed(&alarm);
    let event = happened(&mut alarm, Change::Raised, Some(suppressed), None, at_ms, by);
    (alarm, event)
}

/// Does it, if the alarm takes it as it stands. None: nothing happened that is an event.
/// `suppressed` says why nobody should be told of the alarm as it is then.
pub fn transition(
    alarm: &mut Alarm,
    act: Act,
    at_ms: i64,
    by: By<'_>,
    suppressed: impl Fn(&Alarm) -> Option<Suppressed>,
) -> Result<Option<Event>, Illegal> {
    let from = alarm.state;
    let at_ms = alarm.ordered(at_ms);
    let illegal = Illegal { act: act.name(), state: from };
    if matches!(act, Act::Escalate | Act::Announce) && suppressed(alarm).is_some() {
        return Err(illegal);
    }
    let step = step(alarm, act, at_ms).ok_or(illegal)?;
    if step.is_seen {
        if let Some(value) = by.value {
            alarm.value = value.clone();
        }
        alarm.last_at_ms = alarm.last_at_ms.max(at_ms);
    }
    if act == Act::Acknowledge {
        (alarm.acked_at_ms, alarm.acked_by) = (Some(at_ms), Some(by.actor.to_owned()));
    }
    Ok(step.change.map(|(change, told)| {
        let told = (told == Told::Usually).then(|| suppressed(alarm).filter(|why| why.keeps_quiet(change)));
        happened(alarm, change, told, Some(from), at_ms, by)
    }))
}

/// What became of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    /// None: no event.
    change: Option<(Change, Told)>,
    /// Whether the condition was looked at while it held.
    is_seen: bool,
}

/// Whether somebody should be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Unless nobody wants to hear of it.
    Usually,
    Never,
}

impl Step {
    const NOTHING: Self = Self { change: None, is_seen: false };

    /// Somebody or the clock did something.
    fn done(change: Change, told: Told) -> Self {
        Self { change: Some((change, told)), is_seen: false }
    }

    /// The condition did something.
    fn seen(change: Change, told: Told) -> Self {
        Self { change: Some((change, told)), is_seen: true }
    }

    /// The condition holds, as far as the alarm knows.
    fn still(alarm: &Alarm) -> Self {
        Self { change: None, is_seen: alarm.condition }
    }
}

/// The event. `told`: somebody usually is, unless nobody should be.
fn happened(
    alarm: &mut Alarm,
    change: Change,
    told: Option<Option<Suppressed>>,
    from: Option<State>,
    at_ms: i64,
    by: By<'_>,
) -> Event {
    let (notify, suppressed_by) = match told {
        None => (false, None),
        Some(suppressed) => (suppressed.is_none(), suppressed.map(|why| why.to_string())),
    };
    if notify {
        // One that is over, and waits to be acknowledged, has not ended.
        alarm.told = change != Change::ReturnedToNormal || alarm.state == State::Active;
    }
    if change != Change::ReturnedToNormal {
        if notify {
            alarm.announced_at_ms = Some(at_ms);
        } else if suppressed_by.is_some() && alarm.state == State::Active {
            // To be told when nobody minds any more.
            alarm.announced_at_ms = None;
        }
    }
    alarm.no += 1;
    alarm.changed_at_ms = at_ms;
    Event {
        alarm_id: alarm.id,
        no: alarm.no,
        at_ms,
        change,
        from,
        to: alarm.state,
        severity: alarm.severity,
        origin: by.origin,
        actor: by.actor.to_owned(),
        cause: by.cause,
        value: alarm.value.clone(),
        notify,
        suppressed_by,
    }
}

/// Changes the alarm. None, and no change, if it does not take the act.
fn step(alarm: &mut Alarm, act: Act, at_ms: i64) -> Option<Step> {
    let state = alarm.state;
    match act {
        Act::Comment => return Some(Step::done(Change::Commented, Told::Never)),
        _ if !alarm.is_open() => return None,
        _ => {}
    }
    Some(match act {
        Act::Begin(severity) => begin(alarm, severity),
        Act::Occur(severity) => occur(alarm, severity, at_ms),
        Act::Worsen(severity) => worsen(alarm, severity),
        Act::Hold => Step::still(alarm),
        Act::End => end(alarm, at_ms),
        Act::Acknowledge if state == State::Active && alarm.condition => {
            alarm.state = State::Acknowledged;
            Step::done(Change::Acknowledged, Told::Never)
        }
        Act::Acknowledge if state == State::Active || state == State::Cleared => {
            close(alarm, at_ms);
            Step::done(Change::Acknowledged, Told::Never)
        }
        Act::Unacknowledge if state == State::Acknowledged => {
            activate(alarm);
            Step::done(Change::Unacknowledged, Told::Never)
        }
        Act::Shelve { until_ms } => {
            alarm.shelved_until_ms = Some(until_ms);
            Step::done(Change::Shelved, Told::Never)
        }
        Act::Unshelve if alarm.shelved_until_ms.is_some() => {
            alarm.shelved_until_ms = None;
            Step::done(Change::Unshelved, Told::Never)
        }
        Act::Clear => {
            close(alarm, at_ms);
            Step::done(Change::Cleared, Told::Never)
        }
        Act::Escalate if state == State::Active && can_escalate(alarm) => {
            alarm.level += 1;
            Step::done(Change::Escalated, Told::Usually)
        }
        Act::Announce if state == State::Active => Step::done(Change::Announced, Told::Usually),
        Act::Expire if state == State::Cleared => {
            close(alarm, at_ms);
            Step::done(Change::Expired, Told::Never)
        }
        _ => return None,
    })
}

/// Whether an alarm is bad enough, and was not escalated yet.
pub fn can_escalate(alarm: &Alarm) -> bool {
    alarm.severity >= Severity::Major && alarm.level == 0
}

fn begin(alarm: &mut Alarm, severity: Severity) -> Step {
    if alarm.condition {
        // Whoever says so has forgotten that it began.
        return worsen(alarm, severity);
    }
    alarm.condition = true;
    alarm.cleared_at_ms = None;
    alarm.count = alarm.count.saturating_add(1);
    // Whoever heard that it was over hears that it is back, even if it waits to be acknowledged.
    if alarm.state == State::Active && severity > alarm.severity {
        alarm.severity = severity;
        return Step::seen(Change::Worsened, Told::Usually);
    }
    if alarm.state == State::Cleared {
        alarm.severity = severity;
        activate(alarm);
    }
    Step::seen(Change::Repeated, Told::Usually)
}

fn occur(alarm: &mut Alarm, severity: Severity, at_ms: i64) -> Step {
    alarm.count = alarm.count.saturating_add(1);
    if !alarm.condition {
        alarm.cleared_at_ms = Some(at_ms);
    }
    if alarm.state == State::Active {
        return raise_severity(alarm, severity);
    }
    alarm.severity = if alarm.condition { alarm.severity.max(severity) } else { severity };
    activate(alarm);
    Step::seen(Change::Repeated, Told::Usually)
}

fn worsen(alarm: &mut Alarm, severity: Severity) -> Step {
    if !alarm.condition || severity <= alarm.severity {
        return Step::still(alarm);
    }
    alarm.severity = severity;
    Step::seen(Change::Worsened, Told::Usually)
}

/// An alarm that is told anyhow becomes as bad as this; one that is not is told if it becomes worse.
fn raise_severity(alarm: &mut Alarm, severity: Severity) -> Step {
    if severity <= alarm.severity {
        return Step::seen(Change::Repeated, Told::Never);
    }
    alarm.severity = severity;
    Step::seen(Change::Worsened, Told::Usually)
}

fn end(alarm: &mut Alarm, at_ms: i64) -> Step {
    if !alarm.condition {
        return Step::NOTHING;
    }
    alarm.condition = false;
    alarm.cleared_at_ms = Some(at_ms);
    match alarm.state {
        State::Acknowledged => close(alarm, at_ms),
        State::Active if alarm.alarm_type.is_latched() => {}
        _ => alarm.state = State::Cleared,
    }
    // Whoever never heard of it need not hear that it is over.
    let told = if alarm.told { Told::Usually } else { Told::Never };
    Step::seen(Change::ReturnedToNormal, told)
}

fn activate(alarm: &mut Alarm) {
    alarm.state = State::Active;
    (alarm.acked_at_ms, alarm.acked_by) = (None, None);
}

fn close(alarm: &mut Alarm, at_ms: i64) {
    alarm.state = State::Closed;
    alarm.condition = false;
    alarm.cleared_at_ms.get_or_insert(at_ms);
    alarm.closed_at_ms = Some(at_ms);
    alarm.shelved_until_ms = None;
}
