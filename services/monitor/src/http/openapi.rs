//! The description of the interface, generated from the handlers and committed (`openapi.json`);
//! and the parameters of the routes.

use latchline_shared::alarm::{AlarmType, Severity, State};
use latchline_shared::kit::api::openapi::{
    Common, flag, last_event_id, limit, number, parameter, text, time, word,
};
use latchline_shared::kit::api::page::{LIMIT_DEFAULT, LIMIT_MAX};
use latchline_shared::lock_state::LockState;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required};
use utoipa::{IntoParams, Modify, OpenApi as _};

use super::{acts, alarms, fleet, locks, rules, silences, stream};
use crate::query::changes::ChangeView;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Latchline monitor",
        description = "The present state of every lock, and alarms that people can trust.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        alarms::list,
        alarms::show,
        stream::stream,
        acts::ack,
        acts::unack,
        acts::shelve,
        acts::unshelve,
        acts::clear,
        acts::comment,
        silences::list,
        silences::create,
        silences::expire,
        rules::show,
        rules::reload,
        locks::list,
        locks::show,
        locks::battery,
        fleet::show
    ),
    components(schemas(ChangeView)),
    tags((name = "alarms", description = "What is wrong, and what people do about it"),
         (name = "silences", description = "What nobody wants to hear of"),
         (name = "locks", description = "The present state of locks"),
         (name = "rules", description = "What is wrong when")),
    security(("token" = [])),
    modifiers(&COMMON, &LeftOut)
)]
struct Description;

/// The description.
pub fn description() -> OpenApi {
    Description::openapi()
}

/// What all operations have.
const COMMON: Common = Common {
    token: "A token of the monitor's file; `latchline-monitor token` makes one.",
    unavailable: "the database cannot answer now, or not in time",
};

/// A body that is [`acts::Why`] may be left out ([`acts::Optional`]). An annotation can only say that
/// it may be `null`, which is refused.
struct LeftOut;

impl Modify for LeftOut {
    fn modify(&self, api: &mut OpenApi) {
        let why = RefOr::Ref(Ref::from_schema_name("Why"));
        let posts = api.paths.paths.values_mut().filter_map(|item| item.post.as_mut());
        for body in posts.filter_map(|operation| operation.request_body.as_mut()) {
            if let RefOr::T(body) = body
                && let Some(RefOr::T(json)) = body.content.get("application/json")
                && json.schema.as_ref() == Some(&why)
            {
                body.required = Some(Required::False);
            }
        }
    }
}

/// Of `GET /v1/alarms`.
pub(super) struct AlarmParameters;

impl IntoParams for AlarmParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let order = "By when it was raised: newest (`desc`, the default) or oldest first";
        vec![
            word("state", "Where it stands", State::ALL.iter().map(|state| state.name())),
            word("severity", "How bad it is", severities()),
            word("min_severity", "At least this bad", severities()),
            word("type", "What is wrong", types()),
            text("client_id", "The lock"),
            flag("open", "Not closed; with `false`, closed"),
            time("since", "Raised from then (inclusive), RFC 3339 with offset"),
            time("until", "Raised before then (exclusive), RFC 3339 with offset"),
            word("order", order, ["desc", "asc"]),
            limit("Alarms of a page", LIMIT_DEFAULT, LIMIT_MAX),
            after(),
        ]
    }
}

/// Of `GET /v1/alarms/{id}`.
pub(super) struct ChangeParameters;

impl IntoParams for ChangeParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let after = "Changes behind this number: `next` of the page before";
        vec![
            limit("Changes of a page", LIMIT_MAX, LIMIT_MAX),
            number("after", after, 0..=i64::from(i32::MAX)),
        ]
    }
}

/// Of `GET /v1/alarms/stream`.
pub(super) struct StreamParameters;

impl IntoParams for StreamParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            word("type", "What is wrong", types()),
            word("severity", "How bad it is then", severities()),
            text("client_id", "The lock"),
            text("after", "Id of the last change that was seen, as the header `Last-Event-ID`"),
            last_event_id(),
        ]
    }
}

/// Of `GET /v1/silences`.
pub(super) struct SilenceParameters;

impl IntoParams for SilenceParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            flag("expired", "Over; with `false`, those that last or are still to come"),
            limit("Silences of a page", LIMIT_DEFAULT, LIMIT_MAX),
            after(),
        ]
    }
}

/// Of `GET /v1/locks`.
pub(super) struct LockParameters;

impl IntoParams for LockParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let percent = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(100));
        vec![
            word("state", "State of the bolt", LockState::ALL.map(LockState::name)),
            flag("online", "Not silent; with `false`, silent"),
            parameter("battery_below", "The battery has less, in percent", percent),
            flag("pending", "A delay is running; with `false`, none"),
            limit("Locks of a page", LIMIT_DEFAULT, LIMIT_MAX),
            after(),
        ]
    }
}

/// Of `GET /v1/locks/{id}/battery`.
pub(super) struct BatteryParameters;

impl IntoParams for BatteryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            time("from", "From then (inclusive); by default 14 days before `to`"),
            time("to", "Before then (exclusive); by default now"),
        ]
    }
}

fn after() -> Parameter {
    text("after", "`next` of the page before; the other parameters must stay the same")
}

fn severities() -> impl Iterator<Item = &'static str> {
    Severity::ALL.iter().map(|severity| severity.name())
}

fn types() -> impl Iterator<Item = &'static str> {
    AlarmType::ALL.iter().map(|alarm| alarm.name())
}
