//! The description of the interface, generated from the handlers; served, with a page to try it,
//! and committed (`openapi.json`), so that a change of it is seen.
//!
//! Neither needs a token: they show what may be asked, which is public, and no data.

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};
use utoipa::{IntoParams, Modify, OpenApi as _};
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use super::{checkpoints, events, export, process, stats, stream, verify};
use crate::event::{Direction, Kind, Severity};
use crate::query::filter::Order;

/// Where the description is.
const PATH: &str = "/openapi.json";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Latchline auditor",
        description = "Who unlocked what when and with which result, and whether the history is whole.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        events::events,
        events::timeline,
        process::process,
        stats::stats,
        export::export,
        stream::stream,
        checkpoints::checkpoints,
        verify::verify
    ),
    tags((name = "history", description = "Events and what they tell"),
         (name = "proof", description = "That the history is whole")),
    security(("token" = [])),
    modifiers(&Common)
)]
struct Description;

/// The description.
pub fn description() -> OpenApi {
    Description::openapi()
}

/// The description and the page to try it.
pub(super) fn routes() -> Router {
    let served = description();
    let page = Config::new([Url::new("auditor", PATH)]).validator_url("none").try_it_out_enabled(true);
    Router::new()
        .route(PATH, get(async move || Json(served).into_response()))
        .merge(SwaggerUi::new("/docs").config(page))
}

/// What all operations have: the token, and errors of one shape.
struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        components.schemas.insert("Problem".to_owned(), problem());
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the auditor's file; `latchline-auditor token` makes one."))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        for item in api.paths.paths.values_mut() {
            item.get.iter_mut().for_each(add_errors);
        }
    }
}

fn add_errors(operation: &mut Operation) {
    for (status, why) in [
        ("400", "a parameter is wrong; says which and why"),
        ("401", "no token, or a wrong one"),
        ("403", "the token has not the scope"),
        ("503", "the history cannot be read now, or not in time"),
    ] {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response: Response =
            ResponseBuilder::new().description(why).content("application/problem+json", content).build();
        operation.responses.responses.insert(status.to_owned(), RefOr::T(response));
    }
}

fn problem() -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .description(Some("An error (RFC 9457)"))
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("title", text())
        .property("detail", text())
        .required("status")
        .required("title")
        .into()
}

/// `client_id`.
pub(super) struct Lock;

/// What every route with a filter takes.
pub(super) struct FilterParameters;

/// `order` and `after`.
pub(super) struct Cursor;

/// `limit` and `raw`.
pub(super) struct PageParameters;

impl IntoParams for Lock {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![text("client_id", "The lock")]
    }
}

impl IntoParams for FilterParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let severities = Severity::ALL.map(Severity::name);
        vec![
            text("process_id", "The process: ties a command and its result"),
            text("action", "`unlock`, `lock`, …; of reads, the operation"),
            word("kind", "What it was", Kind::ALL.iter().map(|kind| kind.name())),
            word("direction", "Where it went", Direction::ALL.iter().map(|one| one.name())),
            text("verdict", "Verdict of a command; `ok`, `failed` or `denied` of a result"),
            text("finding", "One of the findings"),
            text("publisher", "Client id of the publisher; of reads, the token's name"),
            word("min_severity", "At least this bad (or 0 to 3)", severities),
            time("since", "From then (inclusive), RFC 3339 with offset; by default 7 days before `until`"),
            time("until", "Before then (exclusive), RFC 3339 with offset"),
        ]
    }
}

impl IntoParams for Cursor {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let order =
            "`desc` (the default): newest first; `asc`: oldest first; `ingest`: as written, for polling";
        vec![
            word("order", order, Order::ALL.map(Order::name)),
            text("after", "`next` of the page before; the other parameters must stay the same"),
        ]
    }
}

impl IntoParams for PageParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(1000))
            .default(Some(100.into()));
        vec![parameter("limit", "Events of a page", limit), flag("raw", "Include the raw records")]
    }
}

pub(super) fn text(name: &str, description: &str) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String))
}

pub(super) fn word(
    name: &str,
    description: &str,
    words: impl IntoIterator<Item = &'static str>,
) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)))
}

pub(super) fn flag(name: &str, description: &str) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::Boolean))
}

pub(super) fn time(name: &str, description: &str) -> Parameter {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String).format(Some(format)))
}

pub(super) fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
