//! The description of the interface, generated from the handlers and committed (`openapi.json`);
//! and the parameters that several routes take.

use latchline_shared::kit::api::openapi::{Common, flag, limit, text, time, word};
use latchline_shared::kit::api::page::{LIMIT_DEFAULT, LIMIT_MAX};
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, OpenApi as _};

use super::{checkpoints, events, export, process, stats, stream, verify};
use crate::event::{Direction, Kind, Severity};
use crate::query::filter::Order;

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
    modifiers(&COMMON)
)]
struct Description;

/// The description.
pub fn description() -> OpenApi {
    Description::openapi()
}

/// What all operations have.
const COMMON: Common = Common {
    token: "A token of the auditor's file; `latchline-auditor token` makes one.",
    unavailable: "the history cannot be read now, or not in time",
};

/// When a route that shows rows answers 500.
pub(super) const UNREADABLE: &str =
    "a row is not what was written, and the answer says which; or a fault that is in the log";

/// `client_id`.
pub(super) struct Lock;

/// Which events a page has.
pub(super) struct PageFilter;

/// Which events an export has.
pub(super) struct ExportFilter;

/// Which events a stream has.
pub(super) struct StreamFilter;

/// `order` and `after`.
pub(super) struct Cursor;

/// `limit` and `raw`.
pub(super) struct PageParameters;

impl IntoParams for Lock {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![text("client_id", "The lock")]
    }
}

impl IntoParams for PageFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        filter("by default 7 days before `until`, or before now; no default with `order=ingest`")
    }
}

impl IntoParams for ExportFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        filter("by default 7 days before `until`, or before now")
    }
}

impl IntoParams for StreamFilter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        filter("without it, from now on")
    }
}

/// What every route with a filter takes; `default` is what holds without `since`.
fn filter(default: &str) -> Vec<Parameter> {
    let severities = Severity::ALL.map(Severity::name).into_iter().chain(["0", "1", "2", "3"]);
    let since = format!("From then (inclusive), RFC 3339 with offset; {default}");
    vec![
        text("process_id", "The process: ties a command and its result"),
        text("action", "`unlock`, `lock`, …; of reads, the operation"),
        word("kind", "What it was", Kind::ALL.iter().map(|kind| kind.name())),
        word("direction", "Where it went", Direction::ALL.iter().map(|one| one.name())),
        text("verdict", "Verdict of a command; `ok`, `failed` or `denied` of a result"),
        text("finding", "One of the findings"),
        text("publisher", "Client id of the publisher; of reads, the token's name"),
        word("min_severity", "At least this bad, by its word or number", severities),
        time("since", &since),
        time("until", "Before then (exclusive), RFC 3339 with offset"),
    ]
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
        vec![limit("Events of a page", LIMIT_DEFAULT, LIMIT_MAX), flag("raw", "Include the raw records")]
    }
}
