//! The routes of a sink, and its page for people.
//!
//! Whoever can send a mail must not be able to do anything with this page. Texts are escaped by the
//! template. A mail's HTML is never part of the page: it is a document of its own, in an `iframe`
//! without any right, and answered with a policy that allows nothing but looks, also when it is opened
//! by itself. The page's own policy allows its own style and script, as files, and nothing inline.

use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use jiff::Timestamp;
use latchline_shared::kit::http::problem::Problem;
use minijinja::Environment;
use minijinja::value::Serde;
use serde::{Deserialize, Serialize};

use super::{Kind, LIMIT, Message, Messages, Part, Source};

/// Messages on a page.
const PAGE_LIMIT: usize = 50;
/// The name ends in `.html`, so what is filled in is escaped.
const TEMPLATE: &str = "page.html";
/// Of the page: files from here, and nothing else.
const OWN_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// Of a mail: looks, and nothing else; in no origin.
const MAIL_POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'self'",
);

#[derive(Clone)]
struct Shown {
    source: Source,
    templates: Arc<Environment<'static>>,
}

/// The routes of a sink.
pub(super) fn routes(source: Source) -> anyhow::Result<Router> {
    let mut templates = Environment::new();
    templates.add_template(TEMPLATE, include_str!("page.html")).context("the page of a sink")?;
    let shown = Shown { source, templates: Arc::new(templates) };
    Ok(Router::new()
        .route("/", get(page))
        .route("/page.css", file("text/css", include_str!("page.css")))
        .route("/page.js", file("text/javascript", include_str!("page.js")))
        .route("/messages/{number}/html", get(html))
        .route("/api/messages", get(messages))
        .route("/livez", get(async || "ok\n"))
        .with_state(shown)
        .layer(from_fn(guarded)))
}

/// What every answer says to the browser.
async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(OWN_POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn file(kind: &'static str, text: &'static str) -> MethodRouter<Shown> {
    get(async move || ([(CONTENT_TYPE, kind)], text))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    before: Option<u64>,
    limit: Option<usize>,
}

impl Wanted {
    fn part(self, limit: usize) -> Part {
        Part { before: self.before.unwrap_or(u64::MAX), limit: self.limit.unwrap_or(limit) }
    }
}

async fn messages(State(shown): State<Shown>, Query(wanted): Query<Wanted>) -> Json<Messages> {
    Json(shown.source.read(wanted.part(LIMIT)))
}

async fn html(State(shown): State<Shown>, Path(number): Path<u64>) -> Result<Response, Problem> {
    let page = shown.source.read(Part::only(number));
    // Before a number that is to come, there is the newest.
    let message = page.messages.into_iter().next().filter(|_| number <= page.count);
    let html = message.and_then(|message| message.html);
    let html = html.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "no such message, or not as HTML"))?;
    Ok(([(CONTENT_SECURITY_POLICY, MAIL_POLICY)], Html(html)).into_response())
}

/// What the template sees.
#[derive(Serialize)]
struct View {
    kind: &'static str,
    title: &'static str,
    count: u64,
    /// Whether the newest are on it: then it follows what comes.
    follows: bool,
    /// Where the next page begins.
    older: Option<u64>,
    messages: Vec<MessageView>,
}

#[derive(Serialize)]
struct MessageView {
    number: u64,
    day: String,
    time: String,
    to: String,
    has_html: bool,
    #[serde(flatten)]
    message: Message,
}

async fn page(State(shown): State<Shown>, Query(wanted): Query<Wanted>) -> Result<Html<String>, Problem> {
    let part = wanted.part(PAGE_LIMIT);
    let page = shown.source.read(part);
    let template = shown.templates.get_template(TEMPLATE).context("page")?;
    let view = view(shown.source.kind, part, page);
    Ok(Html(template.render(Serde(view)).context("page")?))
}

fn view(kind: Kind, part: Part, page: Messages) -> View {
    let Messages { count, messages } = page;
    let newest = part.before.saturating_sub(1).min(count);
    let messages: Vec<MessageView> =
        (0..=newest).rev().zip(messages).map(|(number, message)| message_view(number, message)).collect();
    let older = messages.last().map(|last| last.number).filter(|_| messages.len() == part.limit);
    View {
        kind: match kind {
            Kind::Mail => "mail",
            Kind::Sms => "sms",
        },
        title: match kind {
            Kind::Mail => "Mail",
            Kind::Sms => "SMS",
        },
        count,
        follows: newest == count,
        older: older.filter(|number| *number > 1),
        messages,
    }
}

fn message_view(number: u64, message: Message) -> MessageView {
    let at = i64::try_from(message.at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.unwrap_or_default();
    MessageView {
        number,
        day: at.strftime("%F").to_string(),
        time: at.strftime("%T").to_string(),
        to: message.to.join(", "),
        has_html: message.html.is_some(),
        message: Message { html: None, to: Vec::new(), ..message },
    }
}

#[cfg(test)]
mod tests;
