//! The description of the interface, generated from the handlers and committed (`openapi.json`);
//! and the parameters of the routes.

use latchline_shared::kit::api::openapi::{Common, limit, parameter, text, time, word};
use latchline_shared::kit::api::page::{LIMIT_DEFAULT, LIMIT_MAX};
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi, RefOr};
use utoipa::{IntoParams, Modify, OpenApi as _};

use super::{acts, contacts, locks, notifications, preferences, providers, report, templates, users};
use crate::event::{Channel, EventType, Severity};
use crate::status::Status;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Latchline notifier",
        description = "The users of a lock hear what happened to it, once, on the channel of their choice.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        notifications::list,
        notifications::show,
        acts::retry,
        acts::test,
        providers::list,
        templates::list,
        templates::preview,
        users::list,
        users::show,
        users::put,
        users::remove,
        contacts::list,
        contacts::add,
        contacts::remove,
        contacts::verify,
        contacts::code,
        preferences::show,
        preferences::put,
        locks::of_user,
        locks::members,
        locks::put,
        locks::remove,
        report::take
    ),
    tags((name = "notifications", description = "What was told, and what became of it; addresses are masked"),
         (name = "providers", description = "Who sends it"),
         (name = "templates", description = "The words"),
         (name = "users", description = "Who is told, and what they want; needs the scope admin"),
         (name = "contacts", description = "Where they are told; needs the scope admin"),
         (name = "locks", description = "Whose lock it is; needs the scope admin"),
         (name = "reports", description = "What gateways say became of messages; needs no token")),
    security(("token" = [])),
    modifiers(&COMMON, &Reports)
)]
struct Description;

/// Where gateways report.
pub(super) const REPORTS: &str = "/v1/dlr/{gateway}";

/// The description.
pub fn description() -> OpenApi {
    Description::openapi()
}

/// What all operations have.
const COMMON: Common = Common {
    token: "A token of the notifier's file; `latchline-notifier token` makes one.",
    unavailable: "the database cannot answer now, or not in time",
};

/// Gateways have no token: theirs are errors of their own.
struct Reports;

impl Modify for Reports {
    fn modify(&self, api: &mut OpenApi) {
        let Some(item) = api.paths.paths.get_mut(REPORTS) else { return };
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.remove("401");
            for (status, why) in [
                ("400", "the body cannot be read, or does not say which message; says why"),
                ("403", "who reports has not shown what it should have"),
            ] {
                if let Some(RefOr::T(response)) = responses.get_mut(status) {
                    why.clone_into(&mut response.description);
                }
            }
        }
    }
}

/// Of `GET /v1/notifications`.
pub(super) struct NotificationParameters;

impl IntoParams for NotificationParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            text("user_id", "Who is told"),
            text("client_id", "The lock"),
            word("channel", "How", Channel::ALL.iter().map(|channel| channel.name())),
            word("status", "Where it stands", Status::ALL.iter().map(|status| status.name())),
            word("event_type", "What happened", EventType::all().map(EventType::name)),
            word("severity", "How bad it is", Severity::ALL.iter().map(|severity| severity.name())),
            text("process_id", "Of which result"),
            text("alarm_id", "Of which alarm (UUID)"),
            time("from", "Written from then (inclusive), RFC 3339 with offset"),
            time("to", "Written before then (exclusive), RFC 3339 with offset"),
            limit("Notifications of a page", LIMIT_DEFAULT, LIMIT_MAX),
            after(),
        ]
    }
}

/// Of `GET /v1/notifications/{id}`.
pub(super) struct AttemptParameters;

impl IntoParams for AttemptParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(i32::MAX));
        vec![
            limit("Attempts of a page", LIMIT_MAX, LIMIT_MAX),
            parameter("after", "Attempts behind this number: `next` of the page before", number),
        ]
    }
}

/// Of `GET /v1/users`.
pub(super) struct UserParameters;

impl IntoParams for UserParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![limit("Users of a page", LIMIT_DEFAULT, LIMIT_MAX), after()]
    }
}

/// Of `GET /v1/users/{id}/locks` and `/v1/locks/{client_id}/members`.
pub(super) struct MemberParameters;

impl IntoParams for MemberParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![limit("Rows of a page", LIMIT_DEFAULT, LIMIT_MAX), after()]
    }
}

fn after() -> Parameter {
    text("after", "`next` of the page before; the other parameters must stay the same")
}
