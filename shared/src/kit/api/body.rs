//! The body of a request as JSON, read strictly: the framework's own extractor answers in several
//! statuses and forms, and tells nothing of what Postgres cannot keep.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::params::bad;
use crate::kit::http::problem::Problem;

/// A body of `application/json`. 400 says what does not fit and where, 413 and 415 are problems as
/// well.
///
/// The type must be `#[serde(deny_unknown_fields)]`, and all that are in it
/// (`testing::assert_complete` sees to that).
#[derive(Debug, Clone, Copy)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "the body must be application/json, and Content-Type must say so";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes =
            Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than is allowed")
                }
                // The client broke off; hardly anybody reads this.
                _ => bad("body: cannot be read"),
            })?;
        read(&bytes).map(Self).map_err(|why| bad(format!("body: {why}")))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    // A charset changes nothing: JSON is UTF-8 (RFC 8259).
    let essence = given.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let read = Json::from_bytes(bytes).map_err(|rejection| match std::error::Error::source(&rejection) {
        // Path, what was expected, line and column.
        Some(source) => source.to_string(),
        None => rejection.body_text(),
    });
    let Json(value) = read?;
    if holds_nul(bytes) { Err("a text holds the character U+0000".to_owned()) } else { Ok(value) }
}

/// Whether a text of this JSON holds U+0000, which Postgres cannot keep. As such it is no JSON, so
/// only the escape is looked for.
fn holds_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        let escape = &rest[at + 1..];
        if escape.starts_with(b"u0000") {
            return true;
        }
        // An escaped backslash begins no escape.
        rest = escape.get(1..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Silence {
        comment: String,
        #[serde(default)]
        matchers: Vec<Matcher>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Matcher {
        value: String,
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_place() {
        for (json, expected) in [
            (r#"{"comment":"a\\u0000 b\n","matchers":[{"value":"x"}]}"#, ""),
            ("", "EOF while parsing"),
            ("{", "EOF while parsing an object at line 1 column 1"),
            ("[]", "invalid length 0"),
            (r#"{"comment":1}"#, "comment: invalid type: integer `1`, expected a string at line 1 column 12"),
            (r#"{"comment":"","coment":""}"#, "coment: unknown field `coment`, expected `comment` or"),
            (r#"{"comment":"","comment":""}"#, "duplicate field `comment`"),
            (r#"{"matchers":[]}"#, "missing field `comment`"),
            (
                r#"{"comment":"","matchers":[{"value":"a"},{"value":"b","x":1}]}"#,
                "matchers[1].x: unknown field `x`, expected `value`",
            ),
            (r#"{"comment":""} {}"#, "trailing characters at line 1 column 16"),
            ("{\"comment\":\"\0\"}", "control character"),
            (r#"{"comment":"a\u0000"}"#, "a text holds the character U+0000"),
            (r#"{"comment":"\\\u0000"}"#, "a text holds the character U+0000"),
        ] {
            match read::<Silence>(json.as_bytes()) {
                Ok(_) => assert_eq!(expected, "", "{json}"),
                Err(why) => assert!(!expected.is_empty() && why.contains(expected), "{json}: {why}"),
            }
        }
        assert!(read::<Silence>(b"{\"comment\":\"\xff\"}").is_err());
    }

    #[test]
    fn only_json_is_taken() {
        for (content_type, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;", true),
            ("text/json", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            assert_eq!(is_json(&headers), expected, "{content_type}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
