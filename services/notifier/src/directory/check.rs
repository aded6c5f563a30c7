//! What makes sense in the directory. All that is wrong is told at once, each with its place
//! (`body: name`, `users[3].contacts[0].address`); addresses are never quoted.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use reqwest::Url;

use super::{
    ANY, Choices, Contact, ContactFields, Member, MemberFields, PREFERENCES_MAX, Preference,
    PreferenceFields, User, UserFields,
};
use crate::address;
use crate::event::{Channel, EventType};

/// Longest id of a user.
const USER_ID_CHARS_MAX: usize = 128;
/// Longest name.
const NAME_CHARS_MAX: usize = 100;
/// Longest id of a lock; longer ones are cut where they are kept (`shared::text`).
const CLIENT_ID_BYTES_MAX: usize = 255;
/// How long a digest collects.
const DIGEST_S: std::ops::RangeInclusive<i32> = 60..=86_400;
/// Highest level from which on somebody is told.
const TIER_MAX: i16 = 100;

impl User {
    /// A user that makes sense. What is wrong is added to the problems; `place` is where it stands.
    pub fn new(
        id: &str,
        fields: UserFields,
        choices: &Choices,
        place: &str,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let UserFields { name, locale, time_zone } = fields;
        let before = problems.len();
        let mut wrong = |field: &str, why: Option<String>| {
            problems.extend(why.map(|why| format!("{place}{field}: {why}")));
        };
        wrong("id", unfit_user_id(id));
        wrong("name", name.is_empty().then(|| "is empty".to_owned()).or_else(|| unfit_name(&name)));
        wrong("locale", unfit_locale(&locale, choices));
        let zone = TimeZone::get(&time_zone).ok();
        // As the tables spell it, whatever the case in which it was written.
        let time_zone = zone.as_ref().and_then(TimeZone::iana_name);
        wrong("time_zone", time_zone.is_none().then(|| "is no IANA time zone such as Asia/Tokyo".to_owned()));
        let time_zone = time_zone.filter(|_| problems.len() == before)?.to_owned();
        Some(Self { id: id.to_owned(), name, locale, time_zone })
    }
}

impl Contact {
    /// A contact that makes sense; otherwise as [`User::new`].
    pub fn new(
        user_id: &str,
        fields: &ContactFields,
        choices: &Choices,
        place: &str,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let parsed = address::parse(fields.channel, &fields.address);
        match parsed.and_then(|address| enciphered(fields.channel, address, choices)) {
            Ok(address) => Some(Self { user_id: user_id.to_owned(), channel: fields.channel, address }),
            Err(why) => {
                problems.push(format!("{place}address: {why}"));
                None
            }
        }
    }
}

impl Member {
    /// A user of a lock that makes sense; otherwise as [`User::new`].
    pub fn new(
        client_id: &str,
        user_id: &str,
        fields: MemberFields,
        place: &str,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let MemberFields { lock_name, tier } = fields;
        let before = problems.len();
        let mut wrong = |field: &str, why: Option<String>| {
            problems.extend(why.map(|why| format!("{place}{field}: {why}")));
        };
        wrong("client_id", unfit_client_id(client_id));
        wrong("lock_name", unfit_name(&lock_name));
        let is_tier = (0..=TIER_MAX).contains(&tier);
        wrong("tier", (!is_tier).then(|| format!("must be a number from 0 to {TIER_MAX}")));
        let (client_id, user_id) = (client_id.to_owned(), user_id.to_owned());
        (problems.len() == before).then_some(Self { client_id, user_id, lock_name, tier })
    }
}

impl Preference {
    /// A preference that makes sense; otherwise as [`User::new`].
    pub fn new(fields: PreferenceFields, place: &str, problems: &mut Vec<String>) -> Option<Self> {
        let before = problems.len();
        let mut wrong = |field: &str, why: Option<String>| {
            problems.extend(why.map(|why| format!("{place}{field}: {why}")));
        };
        wrong("client_id", unfit_client_id(&fields.client_id));
        wrong("event_type", unfit_event_type(&fields.event_type));
        let is_length = fields.digest_s == 0 || DIGEST_S.contains(&fields.digest_s);
        let (least, most) = (DIGEST_S.start(), DIGEST_S.end());
        wrong("digest_s", (!is_length).then(|| format!("must be 0 or a number from {least} to {most}")));
        let mut time = |field: &str, text: Option<&String>| {
            let time = text.and_then(|text| time_of_day(text));
            let is_wrong = text.is_some() && time.is_none();
            wrong(field, is_wrong.then(|| "must be a time of day as 22:00".to_owned()));
            time
        };
        let quiet =
            (time("quiet_from", fields.quiet_from.as_ref()), time("quiet_to", fields.quiet_to.as_ref()));
        if fields.quiet_from.is_some() != fields.quiet_to.is_some() {
            wrong("quiet_from", Some("goes with quiet_to: both, or none".to_owned()));
        }
        let quiet = quiet.0.zip(quiet.1);
        if quiet.is_some_and(|(from, to)| from == to) {
            wrong("quiet_from", Some("must not be quiet_to".to_owned()));
        }
        (problems.len() == before).then_some(Self {
            client_id: fields.client_id,
            event_type: fields.event_type,
            channel: fields.channel,
            is_enabled: fields.enabled,
            min_severity: fields.min_severity,
            quiet,
            digest_s: fields.digest_s,
        })
    }

    /// The preferences of one user: each makes sense, and there is one for each choice.
    pub fn list(list: Vec<PreferenceFields>, place: &str, problems: &mut Vec<String>) -> Option<Vec<Self>> {
        if list.len() > PREFERENCES_MAX {
            problems.push(format!("{place}preferences: has more than {PREFERENCES_MAX}"));
            return None;
        }
        let before = problems.len();
        let mut seen = std::collections::HashMap::new();
        let mut checked = Vec::with_capacity(list.len());
        for (index, fields) in list.into_iter().enumerate() {
            let place = format!("{place}preferences[{index}]");
            let key = (fields.client_id.clone(), fields.event_type.clone(), fields.channel);
            if let Some(first) = seen.insert(key, index) {
                problems.push(format!("{place}: is of the same choice as preferences[{first}]"));
            }
            checked.extend(Self::new(fields, &format!("{place}."), problems));
        }
        (problems.len() == before).then_some(checked)
    }
}

/// Why this is no id of a user.
pub fn unfit_user_id(id: &str) -> Option<String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    let is_length = (1..=USER_ID_CHARS_MAX).contains(&id.len());
    // It stays in what was told when its user goes, so it must not be an address; dots alone are places
    // in a path.
    let is_fit = is_length && id.chars().all(is_known) && id.chars().any(|c| c != '.');
    (!is_fit).then(|| format!("must be 1 to {USER_ID_CHARS_MAX} of A-Z a-z 0-9 . _ : -, not dots alone"))
}

/// Why this is neither the id of a lock nor `*`.
pub fn unfit_client_id(client_id: &str) -> Option<String> {
    let is_fit = (1..=CLIENT_ID_BYTES_MAX).contains(&client_id.len()) && !client_id.contains('\0');
    (!is_fit).then(|| format!("must be {ANY} or 1 to {CLIENT_ID_BYTES_MAX} bytes without U+0000"))
}

/// Why this is no locale.
pub fn unfit_locale(locale: &str, choices: &Choices) -> Option<String> {
    let (language, region) = locale.split_once('-').unwrap_or((locale, "JP"));
    let is_country = region.len() == 2 && region.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_area = region.len() == 3 && region.bytes().all(|byte| byte.is_ascii_digit());
    let is_of_language = choices.locales.contains(language) && (is_country || is_area);
    // Some have words of a region alone.
    let is_lower = language.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_own = is_lower && choices.locales.contains(&locale.to_ascii_lowercase());
    let names = || choices.locales.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (!is_of_language && !is_own).then(|| format!("must be one of {}, also with a region as ja-JP", names()))
}

/// What is told goes encrypted, but to addresses of networks that the configuration names.
fn enciphered(channel: Channel, address: String, choices: &Choices) -> Result<String, String> {
    let is_permitted = || Url::parse(&address).is_ok_and(|url| choices.guard.permits_scheme(&url));
    if channel == Channel::Webhook && !is_permitted() {
        Err("must be https://".to_owned())
    } else {
        Ok(address)
    }
}

fn unfit_event_type(name: &str) -> Option<String> {
    let is_fit = name == ANY || EventType::choices().any(|event| event.name() == name);
    let names = || EventType::choices().map(EventType::name).collect::<Vec<_>>().join(", ");
    (!is_fit).then(|| format!("must be one of {ANY}, {}", names()))
}

fn unfit_name(name: &str) -> Option<String> {
    if name.chars().count() > NAME_CHARS_MAX {
        Some(format!("has more than {NAME_CHARS_MAX} characters"))
    } else if name.chars().any(char::is_control) {
        Some("holds a control character".to_owned())
    } else {
        None
    }
}

/// `22:00`, and no other spelling.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i8>().ok().filter(|_| is_number)
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}
