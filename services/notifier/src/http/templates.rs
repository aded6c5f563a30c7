//! `/v1/templates`: the words, before anybody is told.

use axum::Json;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use latchline_shared::alarm::Change;
use latchline_shared::kit::api::body::JsonBody;
use latchline_shared::kit::api::params::{Params, bad};
use latchline_shared::kit::http::problem::Problem;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Pairs, Shared};
use crate::directory::check::unfit_locale;
use crate::event::{Channel, EventType, Facts, Severity};
use crate::template::sms::{Encoding, segments};
use crate::template::{CHANGES, Listed, Rendered, Templates};

/// The words that there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Words {
    /// Languages that a user can have.
    locales: Vec<String>,
    /// What can become of an alarm and is told.
    changes: Vec<&'static str>,
    /// How bad something can be.
    severities: Vec<&'static str>,
    /// Which file has the words of what, in each language.
    templates: Vec<Listed>,
}

/// Which file has the words of which event, and what can be previewed.
#[utoipa::path(get, path = "/v1/templates", tag = "templates", responses((status = 200, body = Words)))]
pub(super) async fn list(Extract(state): Shared, Query(pairs): Pairs) -> Result<Json<Words>, Problem> {
    Params::new(pairs).finish()?;
    Ok(Json(Words {
        locales: state.api.choices.locales.iter().cloned().collect(),
        changes: CHANGES.iter().map(|change| change.name()).collect(),
        severities: Severity::ALL.iter().map(|severity| severity.name()).collect(),
        templates: state.api.templates.list(),
    }))
}

/// An event that could have happened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Imagined {
    /// What happened.
    #[schema(value_type = String, example = "unlocked")]
    event_type: EventType,
    /// Of an alarm: what became of it. Without it, `unlock_failed` is a result, and an alarm is raised.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    change: Option<Change>,
    /// How bad it is; as is usual if it is not given.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    severity: Option<Severity>,
    /// Language, one of `locales` of `/v1/templates`, also with a region.
    locale: String,
    /// IANA name; UTC if it is not given.
    #[serde(default)]
    time_zone: Option<String>,
    /// What is known of it, as `facts` of a notification; made up if it is not given.
    #[serde(default, deserialize_with = "facts")]
    #[schema(value_type = Option<Object>)]
    facts: Option<Facts>,
}

/// Facts that somebody has written: a name that is none is a mistake.
fn facts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Facts>, D::Error> {
    let Some(written) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    match Facts::unknown(&written) {
        Some(place) => Err(D::Error::custom(format!("{place}: unknown field"))),
        None => Facts::deserialize(written).map(Some).map_err(D::Error::custom),
    }
}

/// What would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Preview {
    /// Of the e-mail.
    subject: String,
    /// Of the e-mail.
    text: String,
    /// Of the e-mail.
    html: String,
    /// The SMS.
    sms: String,
    /// How the SMS goes into the air: `gsm7` or `ucs2`.
    sms_encoding: Encoding,
    /// Septets, or UTF-16 code units, of the SMS.
    sms_units: usize,
    /// How many messages are paid for.
    sms_segments: usize,
    /// The webhook's body.
    #[schema(value_type = Object)]
    webhook: Value,
}

/// Shows what would be sent of an event, on all channels.
#[utoipa::path(post, path = "/v1/templates/preview", tag = "templates", request_body = Imagined,
    responses((status = 200, body = Preview),
              (status = 422, description = "the template cannot be filled; says why")))]
pub(super) async fn preview(
    Extract(state): Shared,
    JsonBody(imagined): JsonBody<Imagined>,
) -> Result<Json<Preview>, Problem> {
    let why = unfit_locale(&imagined.locale, &state.api.choices);
    why.map_or(Ok(()), |why| Err(bad(format!("body: locale: {why}"))))?;
    let zone = imagined.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get);
    let zone = zone.map_err(|_| bad("body: time_zone: is no IANA time zone such as Asia/Tokyo"))?;
    render(&state.api.templates, imagined, &zone)
        .map(Json)
        .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}

fn render(templates: &Templates, imagined: Imagined, zone: &TimeZone) -> Result<Preview, String> {
    let Imagined { event_type, change, severity, locale, facts, .. } = imagined;
    let mut facts = facts.unwrap_or_else(|| Templates::sample(event_type, change));
    facts.change = change.or(facts.change);
    if facts.at_ms == 0 {
        facts.at_ms = Timestamp::now().as_millisecond();
    }
    let severity = severity.unwrap_or_else(|| usual(event_type));
    let fill = |channel| templates.render(channel, event_type, severity, &locale, zone, Uuid::nil(), &facts);
    let rendered = (fill(Channel::Email)?, fill(Channel::Sms)?, fill(Channel::Webhook)?);
    let (
        Rendered::Email { subject, text, html },
        Rendered::Sms { text: sms },
        Rendered::Webhook { body: webhook },
    ) = rendered
    else {
        return Err("a channel has the words of another".to_owned());
    };
    let taken = segments(&sms);
    Ok(Preview {
        subject,
        text,
        html,
        sms,
        sms_encoding: taken.encoding,
        sms_units: taken.units,
        sms_segments: taken.segments,
        webhook,
    })
}

fn usual(event_type: EventType) -> Severity {
    match event_type {
        EventType::LockFailed | EventType::UNLOCK_FAILED => Severity::Major,
        EventType::Alarm(_) => Severity::Warning,
        _ => Severity::Info,
    }
}
