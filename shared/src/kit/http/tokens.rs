//! Bearer tokens of people and programs: each has a name and scopes, so that an API knows who asks
//! and what they may.
//!
//! ```text
//! # name        hash of the secret     scopes
//! token alice    sha256:2bb8…25b        read,export
//! token console  sha256:5e88…1d8        read
//! ```
//!
//! One token a line, words separated by blanks or tabs, `#` begins a comment line. The secret is
//! random ([`generate`]) and only its SHA-256 is kept. The service says which scopes there are; none
//! includes another.
//!
//! Invariant: a table is complete or not there: a file with any wrong line is refused as a whole,
//! and what was read before stays in force. Wrong lines are named by number and never quoted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;

use super::auth::bearer;
use super::problem::Problem;
use crate::hex;
use crate::keys::SecretHash;

/// Longest name.
const NAME_BYTES_MAX: usize = 64;
/// Most tokens of a file; each request is compared with all of them.
const TOKENS_MAX: usize = 1000;
/// Wrong lines that are named one by one; the others are counted.
const PROBLEMS_SHOWN_MAX: usize = 50;
/// What secrets begin with, so that scanners for leaked ones know them.
const SECRET_PREFIX: &str = "latchline_";

/// The file and what was last read from it.
#[derive(Debug)]
pub struct Tokens {
    /// None if there is no file, and so no token.
    path: Option<PathBuf>,
    scopes: &'static [&'static str],
    table: ArcSwap<Vec<Token>>,
}

#[derive(Debug)]
struct Token {
    hash: SecretHash,
    caller: Caller,
}

/// Who asks. An extractor in routes that [`protect`] guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token.
    pub name: Arc<str>,
    /// What the token allows.
    pub scopes: Arc<[&'static str]>,
}

impl Tokens {
    /// Reads the file. `scopes` are those that the service knows.
    pub fn open(path: &Path, scopes: &'static [&'static str]) -> Result<Self, TokensError> {
        let table = ArcSwap::from_pointee(read(path, scopes)?);
        Ok(Self { path: Some(path.to_owned()), scopes, table })
    }

    /// No tokens: nobody passes.
    pub fn none(scopes: &'static [&'static str]) -> Self {
        Self { path: None, scopes, table: ArcSwap::from_pointee(Vec::new()) }
    }

    /// Reads the file anew; if it is wrong, what was read before stays. Blocks on the disk. Returns
    /// the number of tokens.
    pub fn reload(&self) -> Result<usize, TokensError> {
        let Some(path) = &self.path else { return Ok(0) };
        let table = read(path, self.scopes)?;
        let count = table.len();
        self.table.store(Arc::new(table));
        Ok(count)
    }

    /// Who sends these headers.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(shown) = bearer(headers) else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "no bearer token"));
        };
        let shown = SecretHash::of(shown);
        // All are compared, so that the time tells nothing about the place in the file.
        let mut found = None;
        for token in self.table.load().iter() {
            if token.hash.is(&shown) {
                found = Some(token.caller.clone());
            }
        }
        found.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "wrong bearer token"))
    }
}

impl Caller {
    /// Refuses a caller who has not this scope.
    pub fn require(&self, scope: &str) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("the token {} has not the scope {scope}", self.name);
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Fails closed: a route that nobody protects has no caller.
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::from(anyhow::anyhow!("a route that needs a caller is not protected")))
    }
}

/// The router for those who have `scope`: 401 without a token of the file, 403 without the scope.
pub fn protect<S>(router: Router<S>, tokens: Arc<Tokens>, scope: &'static str) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    router.route_layer(from_fn(move |mut request: Request, next: Next| {
        let caller =
            tokens.caller(request.headers()).and_then(|caller| caller.require(scope).map(|()| caller));
        async move {
            match caller {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    next.run(request).await
                }
                Err(problem) => problem.into_response(),
            }
        }
    }))
}

/// A token that was just made.
pub struct NewToken {
    /// What its owner shows; kept nowhere else.
    pub secret: String,
    /// Its line for the file.
    pub line: String,
}

/// Makes a token with a random secret. `scopes` is a list with commas.
pub fn generate(name: &str, scopes: &str, known: &'static [&'static str]) -> anyhow::Result<NewToken> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes))?;
    let secret = format!("{SECRET_PREFIX}{}", hex::encode(&bytes));
    let line = format!("token {name} {} {scopes}", SecretHash::of(secret.as_bytes()));
    match entry(line.as_bytes(), known) {
        Ok(Some(_)) => Ok(NewToken { secret, line }),
        Ok(None) => anyhow::bail!("the token has no name"),
        Err(why) => anyhow::bail!("the token {why}"),
    }
}

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some of its lines are wrong.
    #[error("{} is refused: {problems}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Which lines, and why.
        problems: String,
    },
}

fn read(path: &Path, scopes: &'static [&'static str]) -> Result<Vec<Token>, TokensError> {
    let text = fs::read(path).map_err(|source| TokensError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, scopes).map_err(|problems| TokensError::Wrong { path: path.to_owned(), problems })
}

fn parse(text: &[u8], scopes: &'static [&'static str]) -> Result<Vec<Token>, String> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let token = entry(line, scopes).and_then(|token| match token {
            Some(token) if tokens.iter().any(|other| other.caller.name == token.caller.name) => {
                Err("repeats the name of an earlier line".to_owned())
            }
            // Whoever showed it would be two people.
            Some(token) if tokens.iter().any(|other| other.hash.is(&token.hash)) => {
                Err("repeats the hash of an earlier line".to_owned())
            }
            Some(_) if tokens.len() == TOKENS_MAX => Err(format!("is one of more than {TOKENS_MAX} tokens")),
            token => Ok(token),
        });
        match token {
            Ok(token) => tokens.extend(token),
            Err(why) => problems.push(format!("line {number} {why}")),
        }
    }
    if problems.is_empty() {
        return Ok(tokens);
    }
    let more = problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
    problems.truncate(PROBLEMS_SHOWN_MAX);
    if more > 0 {
        problems.push(format!("and {more} more"));
    }
    Err(problems.join("; "))
}

/// The token of a line, unless the line is empty or a comment.
fn entry(line: &[u8], known: &'static [&'static str]) -> Result<Option<Token>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        None => return Ok(None),
        Some(word) if word.starts_with('#') => return Ok(None),
        Some("token") => {}
        Some(_) => return Err("must begin with token or #".to_owned()),
    }
    let name = words.next().ok_or("has no name")?;
    let is_named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte));
    if name.len() > NAME_BYTES_MAX || !is_named {
        return Err(format!("has a name that is not 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ @ -"));
    }
    let hash = words.next().ok_or("has no hash")?;
    let hash = SecretHash::from_text(hash)
        .ok_or("must have sha256: and 64 lower-case hexadecimal digits after the name")?;
    // What a script writes whose variable was not set; it would let everybody in.
    if hash.is(&SecretHash::of(b"")) {
        return Err("has the hash of an empty secret".to_owned());
    }
    let scopes = words.next().ok_or("has no scopes")?;
    let scopes = scopes
        .split(',')
        .map(|scope| known.iter().copied().find(|known| *known == scope))
        .collect::<Option<Arc<[_]>>>()
        .ok_or_else(|| format!("has a scope that is none of {}", known.join(", ")))?;
    if words.next().is_some() {
        return Err("has a word too many".to_owned());
    }
    Ok(Some(Token { hash, caller: Caller { name: name.into(), scopes } }))
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;

    use super::*;

    const SCOPES: &[&str] = &["read", "export", "admin"];
    const HASH: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn headers(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        headers
    }

    #[test]
    fn a_token_names_its_caller_until_it_is_taken_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let (alice, bob) = (generate("alice", "read,export", SCOPES), generate("bob", "admin", SCOPES));
        let (alice, bob) = (alice.unwrap(), bob.unwrap());
        fs::write(&path, format!("# ours\n\n{}\n\t{}\r\n", alice.line, bob.line)).unwrap();
        let tokens = Tokens::open(&path, SCOPES).unwrap();

        let caller = tokens.caller(&headers(&alice.secret)).unwrap();
        assert_eq!((&*caller.name, &*caller.scopes), ("alice", &["read", "export"][..]));
        caller.require("export").unwrap();
        let refused = caller.require("admin").unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.detail.as_deref(), Some("the token alice has not the scope admin"));
        assert_eq!(&*tokens.caller(&headers(&bob.secret)).unwrap().name, "bob");
        for wrong in ["", "x", &alice.line, &alice.secret[1..], &format!("{} ", alice.secret)] {
            let refused = tokens.caller(&headers(wrong)).unwrap_err();
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(tokens.caller(&HeaderMap::new()).is_err());

        fs::write(&path, "nonsense").unwrap();
        assert!(tokens.reload().is_err());
        tokens.caller(&headers(&alice.secret)).unwrap();
        fs::write(&path, &bob.line).unwrap();
        assert_eq!(tokens.reload().unwrap(), 1);
        assert!(tokens.caller(&headers(&alice.secret)).is_err());
        tokens.caller(&headers(&bob.secret)).unwrap();
    }

    #[test]
    fn all_wrong_lines_are_named_and_none_is_quoted() {
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        let other = SecretHash::of(b"other");
        let rows = [
            (format!("token ok {HASH} read"), None),
            (format!("user a {HASH} read"), Some("must begin with token or #")),
            ("token".to_owned(), Some("has no name")),
            ("token b".to_owned(), Some("has no hash")),
            ("token b hunter2 read".to_owned(), Some("must have sha256:")),
            (format!("token b {}", other), Some("has no scopes")),
            (format!("token b {other} read,write"), Some("has a scope that is none of read, export, admin")),
            (format!("token b {other} read,"), Some("has a scope that is none of")),
            (format!("token b {other} read export"), Some("has a word too many")),
            (format!("token b {} read", SecretHash::of(b"")), Some("has the hash of an empty secret")),
            (format!("token {long} {other} read"), Some("has a name that is not 1 to 64 of")),
            (format!("token é {other} read"), Some("has a name that is not 1 to 64 of")),
            (format!("token ok {other} read"), Some("repeats the name of an earlier line")),
            (format!("token b {HASH} read"), Some("repeats the hash of an earlier line")),
        ];
        let text: Vec<_> = rows.iter().map(|(line, _)| line.as_str()).collect();
        let message = parse(text.join("\n").as_bytes(), SCOPES).unwrap_err();
        let wrong = (1..).zip(&rows).filter_map(|(number, (_, why))| Some((number, (*why)?)));
        let parts: Vec<_> = message.split("; ").collect();
        assert_eq!(parts.len(), rows.len() - 1);
        for ((number, why), part) in wrong.zip(parts) {
            assert!(part.starts_with(&format!("line {number} {why}")), "{part}");
        }
        assert!(!message.contains("hunter2") && !message.contains("2bb8"));
        let message = parse("x\n".repeat(1000).as_bytes(), SCOPES).unwrap_err();
        assert!(message.ends_with("; and 950 more"), "{message}");
    }

    #[test]
    fn new_tokens_are_random_and_fit_the_file() {
        let one = generate("a", "read", SCOPES).unwrap();
        assert_ne!(one.secret, generate("a", "read", SCOPES).unwrap().secret);
        assert!(
            one.secret.starts_with("latchline_") && one.secret.len() == 74 && !one.line.contains("line_")
        );
        assert_eq!(parse(one.line.as_bytes(), SCOPES).unwrap().len(), 1);
        for (name, scopes) in [("a", "write"), ("a b", "read"), ("", "read"), ("a", ""), ("a\nb", "read")] {
            assert!(generate(name, scopes, SCOPES).is_err(), "{name:?} {scopes:?}");
        }
    }
}
