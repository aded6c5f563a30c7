//! Commands: delivered ones and refused ones.

use jiff::Timestamp;
use latchline_shared::text::bounded;

use super::Context;
use super::known::{Key, Known};
use crate::event::{Direction, Event, Kind, Severity};
use crate::finding::Finding;
use crate::process;
use crate::verdict::{Examined, FirstUse, Passage, Signature, Verdict, classify};

impl Context<'_> {
    /// A command that somebody acknowledged.
    pub(super) fn command(
        &self,
        known: &mut Known,
        receiver: &str,
        is_at_lock: bool,
        examined: &Examined,
    ) -> Event {
        let item = self.item;
        let passage = self.passage();
        let first = self.first_use(known, examined);
        let verdict = classify(examined, &passage, first);
        let mut reason = reason(verdict, examined, first);
        if let Some(command) = examined.verified().filter(|_| first.is_none()) {
            let key = (item.lock.clone(), command.nonce.clone());
            known.nonces.put(key, FirstUse::of(examined, &passage));
        }
        let mut findings = Vec::new();
        if !is_at_lock {
            findings.push(Finding::UnexpectedReceiver);
        }
        // The user name on record is the receiver's.
        if self.settings.publishers.refuse(&item.publisher, None) {
            findings.push(Finding::UnauthorisedPublisher);
        }
        if let Some((key, delivery)) = self.delivery(examined, verdict, is_at_lock) {
            let (process, finding) = process::deliver(known.processes.get(&key), &delivery);
            if let Some(process) = process {
                known.put_process(self.lane, key, process);
            }
            if finding == Some(Finding::ResultMismatch) {
                reason.get_or_insert_with(|| "the result that came before is of another action".to_owned());
            }
            findings.extend(finding);
        }
        let event = self.event(Kind::Command, Direction::Downlink, &findings, verdict.severity());
        Event { receiver: Some(receiver.to_owned()), reason, ..described(event, verdict, examined) }
    }

    /// A command that the broker refused: judged as if it had come, but it uses no nonce up.
    pub(super) fn attempt(&self, known: &Known, why: &str, examined: &Examined) -> Event {
        let item = self.item;
        let own = classify(examined, &self.passage(), self.first_use(known, examined));
        let verdict = Verdict::from_name(why).unwrap_or(own);
        let mut findings = Vec::new();
        if self.settings.publishers.refuse(&item.publisher, item.username.as_deref()) {
            findings.push(Finding::UnauthorisedPublisher);
        }
        // Whatever it was, it was refused.
        let severity = verdict.severity().max(Severity::Warning);
        let reason = match own == verdict {
            true => why.to_owned(),
            false => format!("{why}; {} by the auditor's own judgement", own.name()),
        };
        let event = self.event(Kind::Attempt, Direction::Downlink, &findings, severity);
        Event { reason: Some(reason), ..described(event, verdict, examined) }
    }

    fn passage(&self) -> Passage<'_> {
        let item = self.item;
        Passage { seen_at_ms: item.at_ms, mid: item.mid.as_deref(), from: &item.publisher, dup: item.dup }
    }

    fn first_use<'a>(&self, known: &'a Known, examined: &Examined) -> Option<&'a FirstUse> {
        let command = examined.verified()?;
        known.nonces.get(&(self.item.lock.clone(), command.nonce.clone()))
    }

    fn delivery<'a>(
        &self,
        examined: &'a Examined,
        verdict: Verdict,
        is_at_lock: bool,
    ) -> Option<(Key, process::Delivery<'a>)> {
        let command = examined.command.as_ref()?;
        let delivery = process::Delivery {
            command,
            verdict,
            is_at_lock,
            at_ms: self.item.at_ms,
            lane: self.lane,
            deadline_at_ms: self.deadline_at_ms(self.settings.result_timeout),
        };
        Some(((self.item.lock.clone(), command.process_id.clone()), delivery))
    }
}

/// The event with what the command says of itself, if it can be read.
fn described(event: Event, verdict: Verdict, examined: &Examined) -> Event {
    let event = Event { verdict: verdict.name().to_owned(), ..event };
    let Some(command) = &examined.command else { return event };
    Event {
        process_id: Some(command.process_id.clone()),
        action: Some(command.action.name().to_owned()),
        nonce_str: Some(command.nonce.clone()),
        // A signer's clock may be beyond the calendar.
        cmd_ts: Timestamp::from_second(command.ts).is_ok().then_some(command.ts),
        skew_ms: command.ts.checked_mul(1_000).and_then(|ms| event.occurred_at_ms.checked_sub(ms)),
        sign_bits: examined.sign_bits(),
        kid: examined.kid.as_deref().map(bounded),
        ..event
    }
}

fn reason(verdict: Verdict, examined: &Examined, first: Option<&FirstUse>) -> Option<String> {
    if let Signature::Refused(_, why) = &examined.signature {
        return Some(bounded(why));
    }
    let first = first.filter(|_| matches!(verdict, Verdict::NonceConflict | Verdict::Replay))?;
    let at = Timestamp::from_millisecond(first.at_ms).unwrap_or_default();
    Some(format!("the nonce was first used at {at} by {}", first.from))
}
