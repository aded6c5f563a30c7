//! Templates are tried before they are needed: with every event, change, language and channel.

use anyhow::{anyhow, ensure};
use jiff::tz::TimeZone;
use latchline_shared::alarm::{AlarmType, Change};
use uuid::Uuid;

use super::sms::{Fitted, UNITS_MAX};
use super::{Templates, clean, sample, view};
use crate::event::{Channel, EventType, Severity};

/// Every event with every change of it that users are told of.
pub(super) fn cases() -> impl Iterator<Item = (EventType, Option<Change>)> {
    EventType::all().flat_map(|event| {
        let is_alarm = matches!(event, EventType::Alarm(_));
        let is_result = !is_alarm || event == EventType::Alarm(AlarmType::UnlockFailed);
        let changes = sample::CHANGES.into_iter().map(Some).filter(move |_| is_alarm);
        is_result.then_some(None).into_iter().chain(changes).map(move |change| (event, change))
    })
}

/// Whether all of them can be filled, and fit.
pub(super) fn check(templates: &Templates) -> anyhow::Result<()> {
    let zone = TimeZone::UTC;
    for locale in templates.locales.keys() {
        let phrases = templates.reader(locale, &zone).phrases;
        for (event, change) in cases() {
            let problem = |why: String| anyhow!("{why} (tried with {event}, {locale})");
            let facts = sample::facts(event, change);
            let render = |channel| {
                templates.render(channel, event, Severity::Major, locale, &zone, Uuid::nil(), &facts)
            };
            let mail = render(Channel::Email).map_err(problem)?;
            let kind = view::kind(event, &facts);
            for (part, text) in mail.parts() {
                let file = templates.file(locale, event, kind, part).map_err(problem)?;
                ensure!(!text.trim().is_empty(), "{}: empty with {event}, {locale}", templates.place(&file));
            }
            check_sms(templates, locale, event, change)?;
            for change in Change::ALL {
                phrases.event(event.name(), Some(change.name())).map_err(problem)?;
            }
        }
    }
    Ok(())
}

fn check_sms(
    templates: &Templates,
    locale: &str,
    event: EventType,
    change: Option<Change>,
) -> anyhow::Result<()> {
    let problem = |why: String| anyhow!("{why} (tried with {event}, {locale})");
    let zone = TimeZone::UTC;
    let reader = templates.reader(locale, &zone);
    for facts in sample::longest(event, change) {
        let file = templates.file(locale, event, view::kind(event, &facts), "sms.txt").map_err(problem)?;
        let place = templates.place(&file);
        let view = reader.view(event, Severity::Major, Uuid::nil(), &facts).map_err(problem)?;
        match templates.sms(&file, view).map_err(problem)? {
            Fitted::Whole(text) => ensure!(!text.is_empty(), "{place}: empty with {event}, {locale}"),
            Fitted::Cut(text) => {
                let units = clean::units(&text);
                return Err(anyhow!(
                    "{place}: {event} does not fit into {UNITS_MAX} UTF-16 code units in {locale}: {text:?} ({units})"
                ));
            }
        }
    }
    Ok(())
}
