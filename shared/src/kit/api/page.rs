//! Pages: which is asked for, and where the next one is, in the answer and as a `Link` (RFC 8288).

use axum::Json;
use axum::http::header::LINK;
use axum::http::{HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cursor;
use super::params::Params;

/// Rows of a page, if no other number is asked for.
pub const LIMIT_DEFAULT: i64 = 100;
/// Most rows of a page.
pub const LIMIT_MAX: i64 = 1000;

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
