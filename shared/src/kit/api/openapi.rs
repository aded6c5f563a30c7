//! The description of an API: generated from the handlers; served, with a page to try it, and
//! committed (`testing`), so that a change of it is seen.
//!
//! Neither the description nor its page needs a token: they show what may be asked, which is
//! public, and no data.

use std::ops::RangeInclusive;

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, ObjectBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
};
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

/// Where the description is.
const PATH: &str = "/openapi.json";
/// Where the page is.
pub(super) const PAGE: &str = "/docs";

/// The description, and the page to try it; `name` is what the page calls it.
pub fn routes(name: &'static str, description: OpenApi) -> Router {
    let page = Config::new([Url::new(name, PATH)]).validator_url("none").try_it_out_enabled(true);
    Router::new()
        .route(PATH, get(async move || Json(description).into_response()))
        .merge(SwaggerUi::new(PAGE).config(page))
}

/// What all operations have: the token (security scheme `token`), and errors of one shape. Errors
/// that an operation names itself, as 404 or 409, get that shape, too, and what it says of an error
/// that all have stands.
#[derive(Debug, Clone, Copy)]
pub struct Common {
    /// What the token is and where it comes from.
    pub token: &'static str,
    /// When the answer is 503.
    pub unavailable: &'static str,
}

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        let components = api.components.get_or_insert_default();
        components.schemas.insert("Problem".to_owned(), problem());
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(self.token)).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        for item in api.paths.paths.values_mut() {
            for operation in operations(item) {
                self.add_errors(operation);
            }
        }
    }
}

impl Common {
    fn add_errors(&self, operation: &mut Operation) {
        let has_body = operation.request_body.is_some();
        let wrong = if has_body {
            "a parameter or the body is wrong; says which and why"
        } else {
            "a parameter is wrong; says which and why"
        };
        let of_body = [("413", "the body is too large"), ("415", "the body is not application/json")];
        let of_all = [
            ("400", wrong),
            ("401", "no token, or a wrong one"),
            ("403", "the token has not the scope"),
            ("500", "a fault that is in the log"),
            ("503", self.unavailable),
        ];
        let responses = &mut operation.responses.responses;
        for (status, why) in of_all.into_iter().chain(of_body.into_iter().filter(|_| has_body)) {
            let response = || RefOr::T(ResponseBuilder::new().description(why).build());
            responses.entry(status.to_owned()).or_insert_with(response);
        }
        for (status, response) in responses {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
            {
                set_problem(response);
            }
        }
    }
}

/// The answer is a problem, unless the operation says something else.
fn set_problem(response: &mut Response) {
    if response.content.is_empty() {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        response.content.insert("application/problem+json".to_owned(), RefOr::T(content));
    }
}

/// The operations of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
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

/// A parameter of the query that is a text.
pub fn text(name: &str, description: &str) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String))
}

/// A parameter of the query that is one of some words.
pub fn word(name: &str, description: &str, words: impl IntoIterator<Item = &'static str>) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)))
}

/// A parameter of the query that is `true` or `false`.
pub fn flag(name: &str, description: &str) -> Parameter {
    parameter(name, description, ObjectBuilder::new().schema_type(Type::Boolean))
}

/// A parameter of the query that is a time.
pub fn time(name: &str, description: &str) -> Parameter {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    parameter(name, description, ObjectBuilder::new().schema_type(Type::String).format(Some(format)))
}

/// A parameter of the query that is a number within bounds; the largest number of all is none.
pub fn number(name: &str, description: &str, bounds: RangeInclusive<i64>) -> Parameter {
    parameter(name, description, integer(bounds))
}

/// The rows of a page: from 1 to `max`.
pub fn limit(description: &str, default: i64, max: i64) -> Parameter {
    parameter("limit", description, integer(1..=max).default(Some(default.into())))
}

fn integer(bounds: RangeInclusive<i64>) -> ObjectBuilder {
    let (min, max) = bounds.into_inner();
    let max = Some(max).filter(|max| *max < i64::MAX);
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(min)).maximum(max)
}

/// The header of a client that comes back to a stream ([`super::live`]).
pub fn last_event_id() -> Parameter {
    let description = "Id of the last event that was seen; it wins over `after`";
    ParameterBuilder::from(text("Last-Event-ID", description)).parameter_in(ParameterIn::Header).build()
}

/// A parameter that must be given.
pub fn required(parameter: Parameter) -> Parameter {
    ParameterBuilder::from(parameter).required(Required::True).build()
}

/// A parameter of the query that need not be given.
pub fn parameter(name: &str, description: &str, schema: ObjectBuilder) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}
