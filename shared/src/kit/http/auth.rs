//! The bearer token of an API.
//!
//! Only its SHA-256 is kept, and hashes are compared in constant time, so neither a memory dump nor
//! the time of an answer gives the token away. No token means no API, never an open one.

use std::path::PathBuf;

use axum::Router;
use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use crate::kit::config::{Validate, value};

/// Shortest token that is accepted in the configuration.
const TOKEN_BYTES_MIN: usize = 16;

/// The keys of the `[http]` table of a binary whose API has one token.
#[derive(Debug, Clone, Deserialize)]
pub struct OneToken {
    /// Bearer token of the API; the API is off while neither this nor `token_file` is set. The
    /// admin routes need no token.
    #[serde(deserialize_with = "value::optional")]
    pub token: Option<SecretString>,
    /// File that holds the token.
    #[serde(deserialize_with = "value::optional")]
    pub token_file: Option<PathBuf>,
}

impl OneToken {
    /// The token, from the value or from the file.
    pub fn read(&self) -> anyhow::Result<Option<SecretString>> {
        value::secret("http.token", self.token.as_ref(), self.token_file.as_deref())
    }
}

impl Validate for OneToken {
    fn problems(&self, problems: &mut Vec<String>) {
        match self.read() {
            Err(error) => problems.push(format!("{error:#}")),
            Ok(Some(token)) if token.expose_secret().len() < TOKEN_BYTES_MIN => {
                problems.push(format!("http.token: must have at least {TOKEN_BYTES_MIN} bytes"));
            }
            Ok(_) => {}
        }
    }
}

/// What a request must show.
#[derive(Clone)]
pub struct Token(Option<[u8; 32]>);

impl Token {
    /// Requests must show this secret; without one the API is off.
    pub fn new(secret: Option<&SecretString>) -> Self {
        Self(secret.map(|secret| Sha256::digest(secret.expose_secret()).into()))
    }

    /// Whether a request with these headers may pass.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(expected) = self.0 else {
            let detail = "the api is off: neither http.token nor http.token_file is set";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        };
        let Some(shown) = bearer(headers) else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "no bearer token"));
        };
        let shown: [u8; 32] = Sha256::digest(shown).into();
        if !bool::from(shown.ct_eq(&expected)) {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "wrong bearer token"));
        }
        Ok(())
    }
}

/// The router behind the token: requests of its routes that do not show it get 401 or 403.
pub fn protect(router: Router, token: Token) -> Router {
    router.route_layer(from_fn(move |request: Request, next: Next| {
        let checked = token.check(request.headers());
        async move {
            match checked {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        }
    }))
}

/// The credentials of `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_checked() {
        let token = Token::new(Some(&SecretString::from("correct horse")));
        for (authorization, expected) in [
            (None, Err(StatusCode::UNAUTHORIZED)),
            (Some(""), Err(StatusCode::UNAUTHORIZED)),
            (Some("Bearer"), Err(StatusCode::UNAUTHORIZED)),
            (Some("Bearer "), Err(StatusCode::UNAUTHORIZED)),
            (Some("Bearer correct hors"), Err(StatusCode::UNAUTHORIZED)),
            (Some("Bearer correct horse "), Err(StatusCode::UNAUTHORIZED)),
            (Some("Basic correct horse"), Err(StatusCode::UNAUTHORIZED)),
            (Some("Bearer correct horse"), Ok(())),
            (Some("bearer correct horse"), Ok(())),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(authorization) = authorization {
                headers.insert(AUTHORIZATION, authorization.parse().unwrap());
            }
            let checked = token.check(&headers).map_err(|problem| problem.status);
            assert_eq!(checked, expected, "{authorization:?}");
            let off = Token::new(None).check(&headers).map_err(|problem| problem.status);
            assert_eq!(off, Err(StatusCode::FORBIDDEN), "{authorization:?}");
        }
    }
}
