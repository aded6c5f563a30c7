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
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Pairs, Shared};
use crate::directory::LANGUAGES;
use crate::directory::check::unfit_locale;
use crate::event::{Channel, EventType, Facts, Severity};
use crate::template::{Rendered, Templates};

/// What there are words for.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Words {
    /// Languages.
    locales: &'static [&'static str],
    /// Channels.
    channels: Vec<&'static str>,
    /// Types of events.
    event_types: Vec<&'static str>,
    /// What can become of an alarm.
    changes: Vec<&'static str>,
    /// How bad something can be.
    severities: Vec<&'static str>,
}

/// What there are words for: every event in every language on every channel.
#[utoipa::path(get, path = "/v1/templates", tag = "templates", responses((status = 200, body = Words)))]
pub(super) async fn list(Query(pairs): Pairs) -> Result<Json<Words>, Problem> {
    Params::new(pairs).finish()?;
    Ok(Json(Words {
        locales: &LANGUAGES,
        channels: Channel::ALL.iter().map(|channel| channel.name()).collect(),
        event_types: EventType::all().map(EventType::name).collect(),
        changes: Change::ALL.iter().map(|change| change.name()).collect(),
        severities: Severity::ALL.iter().map(|severity| severity.name()).collect(),
    }))
}

/// An event that could have happened.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Imagined {
    /// What happened.
    #[schema(value_type = String, example = "unlocked")]
    event_type: EventType,
    /// Of an alarm: what became of it; `raised` if it is not given.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    change: Option<Change>,
    /// How bad it is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    severity: Option<Severity>,
    /// Language: `en` or `ja`, also with a region.
    locale: String,
    /// IANA name; UTC if it is not given.
    #[serde(default)]
    time_zone: Option<String>,
    /// What is known of it, as `facts` of a notification.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    facts: Option<Facts>,
}

/// What would be sent.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Preview {
    /// Of the e-mail.
    subject: String,
    /// Of the e-mail.
    text: String,
    /// Of the e-mail.
    html: String,
    /// The SMS.
    sms: String,
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
    let why = unfit_locale(&imagined.locale);
    why.map_or(Ok(()), |why| Err(bad(format!("body: locale: {why}"))))?;
    let zone = imagined.time_zone.as_deref().map_or(Ok(TimeZone::UTC), TimeZone::get);
    let zone = zone.map_err(|_| bad("body: time_zone: is no IANA time zone such as Asia/Tokyo"))?;
    render(&state.api.templates, imagined, &zone)
        .map(Json)
        .map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))
}

fn render(templates: &Templates, imagined: Imagined, zone: &TimeZone) -> Result<Preview, String> {
    let Imagined { event_type, change, severity, locale, facts, .. } = imagined;
    let at_ms = Timestamp::now().as_millisecond();
    let mut facts = facts.unwrap_or_else(|| Facts { at_ms, ..Facts::default() });
    if matches!(event_type, EventType::Alarm(_)) {
        facts.change = change.or(facts.change);
    }
    let severity = severity.unwrap_or(Severity::Info);
    let mut preview = Preview::default();
    for channel in Channel::ALL {
        let id = Uuid::nil();
        let rendered = templates.render(*channel, event_type, severity, &locale, zone, id, &facts)?;
        match rendered {
            Rendered::Email { subject, text, html } => {
                (preview.subject, preview.text, preview.html) = (subject, text, html);
            }
            Rendered::Sms { text } => preview.sms = text,
            Rendered::Webhook { body } => preview.webhook = body,
        }
    }
    Ok(preview)
}
