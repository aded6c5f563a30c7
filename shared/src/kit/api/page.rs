//! Pages: which is asked for, its rows, and where the next one is, in the answer and as a `Link`
//! (RFC 8288).
//!
//! They are read by key and never by number: page 1000 costs what page 1 does, and rows that arrive
//! meanwhile move nothing.

use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, GenericClient, Row};

use super::cursor;
use super::params::Params;
use crate::kit::postgres::statement::Statement;

/// Rows of a page, if no other number is asked for.
pub const LIMIT_DEFAULT: i64 = 100;
/// Most rows of a page.
pub const LIMIT_MAX: i64 = 1000;

/// What was read, and whether there is more behind it.
#[derive(Debug)]
pub struct Page<T> {
    /// What was read.
    pub rows: Vec<T>,
    /// Whether there is more.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// The row behind which the next page begins, if there is one.
    pub fn end(&self) -> Option<&T> {
        self.rows.last().filter(|_| self.has_more)
    }
}

/// Reads a page of `limit` rows by a statement that has no limit yet.
pub async fn read<T>(
    client: &(impl GenericClient + Sync),
    mut statement: Statement,
    limit: usize,
    of_row: impl FnMut(&Row) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    // One row more than is asked for shows whether there are more.
    let rows_max = statement.bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1), Type::INT8);
    statement.push(&format!(" limit {rows_max}"));
    let rows = client.query_typed(&statement.text, &statement.values()).await?;
    let has_more = rows.len() > limit;
    let rows = rows.iter().take(limit).map(of_row).collect::<Result<_, _>>()?;
    Ok(Page { rows, has_more })
}

/// Where a request went.
#[derive(Debug)]
pub struct Place {
    /// Its URI.
    pub uri: Uri,
    /// Its query.
    pub pairs: Vec<(String, String)>,
}

impl Place {
    /// The answer, with a link to the page that begins behind `next`.
    pub fn answer(&self, page: impl Serialize, next: Option<&str>) -> Response {
        let mut response = Json(page).into_response();
        let link = next.map(|next| self.link(next));
        if let Some(link) = link.and_then(|link| HeaderValue::try_from(link).ok()) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }

    fn link(&self, next: &str) -> String {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let same = self.pairs.iter().filter(|(name, _)| name != "after");
        let same: String = same.map(|(name, value)| format!("{}={}&", encode(name), encode(value))).collect();
        // A cursor is base64url: nothing of it needs to be encoded.
        format!("<{}?{same}after={next}>; rel=\"next\"", self.uri.path())
    }
}

/// Rows of the page.
pub fn limit(params: &mut Params) -> usize {
    params.number("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT) as usize
}

/// Where the page before ended.
pub fn after<K: DeserializeOwned>(params: &mut Params, question: &str) -> Option<K> {
    params.parsed("after", |text| cursor::decode(question, text).map_err(|error| error.to_string()))
}
