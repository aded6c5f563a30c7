//! What a gateway's answer means. Pure.
//!
//! | answer | outcome |
//! |---|---|
//! | all of `success` holds | accepted |
//! | a code that is known | as configured |
//! | a status of `permanent_statuses` | permanent |
//! | 408, 425, 429, 500, other 5xx | transient, not before `Retry-After` |
//! | 502, 504 | ambiguous: whoever stands behind it may have taken it |
//! | 503 | unavailable, not before `Retry-After`: it is not there |
//! | 401, 402, 403, 404, 405, 406, 407, 415 | unavailable: it is about us, not about the message |
//! | 3xx | unavailable: we go where we were told to go only |
//! | another 4xx | permanent |
//! | 2xx | ambiguous: it may have taken it |

use anyhow::Context;
use regex::Regex;
use serde_json::Value;

use super::super::Answer;
use super::super::Bounce;
use super::super::exchange::Reply;
use super::gateway_settings::{Code, GatewaySettings, StatusPattern};
use crate::status::Outcome;

/// Longest id of a message or code that is kept.
const WORD_CHARS_MAX: usize = 128;

/// How a gateway's answers are read.
#[derive(Debug)]
pub(super) struct Rules {
    statuses: Vec<StatusPattern>,
    body: Option<Regex>,
    path: Option<String>,
    equals: Option<Code>,
    id: Place,
    error: Place,
    codes: [(Outcome, Option<Bounce>, Vec<Code>); 4],
    permanent: Vec<StatusPattern>,
}

/// Where something stands in an answer.
#[derive(Debug)]
struct Place {
    path: Option<String>,
    regex: Option<Regex>,
}

/// A body, as text and as JSON.
struct Body<'a> {
    text: &'a str,
    json: Option<Value>,
}

impl Rules {
    /// Reads the regular expressions.
    pub(super) fn new(gateway: &GatewaySettings) -> anyhow::Result<Self> {
        let success = &gateway.success;
        anyhow::ensure!(!success.status.is_empty(), "success.status: must not be empty");
        let needs_path = success.equals.is_some() && success.path.is_none();
        anyhow::ensure!(!needs_path, "success.equals: needs success.path");
        Ok(Self {
            statuses: success.status.clone(),
            body: regex("success.body_regex", success.body_regex.as_deref())?,
            path: success.path.clone(),
            equals: success.equals.clone(),
            id: Place {
                path: gateway.id_path.clone(),
                regex: regex("id_regex", gateway.id_regex.as_deref())?,
            },
            error: Place {
                path: gateway.error_path.clone(),
                regex: regex("error_regex", gateway.error_regex.as_deref())?,
            },
            codes: [
                (Outcome::Permanent, Some(Bounce::Gone), gateway.gone_codes.clone()),
                (Outcome::Permanent, None, gateway.permanent_codes.clone()),
                (Outcome::Transient, None, gateway.transient_codes.clone()),
                (Outcome::Unavailable, None, gateway.unavailable_codes.clone()),
            ],
            permanent: gateway.permanent_statuses.clone(),
        })
    }

    /// What it means. What of `secrets` it quotes is left out of the excerpt.
    pub(super) fn judge(&self, reply: &Reply, secrets: &[&str]) -> Answer {
        let text = String::from_utf8_lossy(&reply.body);
        let body = Body { text: &text, json: serde_json::from_str(&text).ok() };
        let code = format!("http {}", reply.status);
        if self.is_success(reply.status, &body) {
            let provider_id = self.id.find(&body);
            return Answer { provider_id, ..Answer::new(Outcome::Accepted, code, "") };
        }
        let error = self.error.find(&body);
        let known = error.as_ref().and_then(|error| {
            let is_listed = |codes: &[Code]| codes.iter().any(|code| code.0 == *error);
            self.codes.iter().find(|(_, _, codes)| is_listed(codes))
        });
        let (outcome, bounce) = match known {
            Some((outcome, bounce, _)) => (*outcome, *bounce),
            None => (self.of_status(reply.status), None),
        };
        let code = error.map_or_else(|| code.clone(), |error| format!("{code} {error}"));
        let said = body.without(secrets);
        let excerpt = match outcome {
            Outcome::Unavailable if known.is_none() && (400..500).contains(&reply.status) => {
                format!("it refuses us: {said}")
            }
            _ => said,
        };
        let after = reply.after.filter(|_| matches!(outcome, Outcome::Transient | Outcome::Unavailable));
        Answer { bounce, after, ..Answer::new(outcome, code, &excerpt) }
    }

    fn is_success(&self, status: u16, body: &Body<'_>) -> bool {
        let has_value = |path| {
            let found = body.at(path);
            match &self.equals {
                Some(expected) => found.is_some_and(|found| found == expected.0),
                None => found.is_some_and(|found| !found.is_empty()),
            }
        };
        self.statuses.iter().any(|pattern| pattern.matches(status))
            && self.body.as_ref().is_none_or(|regex| regex.is_match(body.text))
            && self.path.as_deref().is_none_or(has_value)
    }

    fn of_status(&self, status: u16) -> Outcome {
        if self.permanent.iter().any(|pattern| pattern.matches(status)) {
            return Outcome::Permanent;
        }
        match status {
            502 | 504 => Outcome::Ambiguous,
            401..=407 | 415 | 503 => Outcome::Unavailable,
            408 | 425 | 429 | 500.. => Outcome::Transient,
            400..=499 => Outcome::Permanent,
            300..=399 => Outcome::Unavailable,
            _ => Outcome::Ambiguous,
        }
    }
}

impl Place {
    fn find(&self, body: &Body<'_>) -> Option<String> {
        let by_path = self.path.as_deref().and_then(|path| body.at(path));
        let found = by_path.or_else(|| {
            let captures = self.regex.as_ref()?.captures(body.text)?;
            Some(captures.get(1)?.as_str().to_owned())
        })?;
        let is_odd = |character: char| character.is_control();
        let word: String =
            found.chars().filter(|character| !is_odd(*character)).take(WORD_CHARS_MAX).collect();
        (!word.is_empty()).then_some(word)
    }
}

impl Body<'_> {
    fn at(&self, path: &str) -> Option<String> {
        at(self.json.as_ref()?, path)
    }

    /// Its text without these, however JSON has written them.
    fn without(&self, secrets: &[&str]) -> String {
        match &self.json {
            Some(json) => {
                let mut json = json.clone();
                hide_in(&mut json, secrets);
                json.to_string()
            }
            None => hidden(self.text, secrets),
        }
    }
}

fn hide_in(json: &mut Value, secrets: &[&str]) {
    match json {
        Value::String(text) => *text = hidden(text, secrets),
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in(value, secrets)),
        Value::Object(fields) => fields.values_mut().for_each(|value| hide_in(value, secrets)),
        // An address can be a number.
        Value::Number(number) if secrets.contains(&number.to_string().as_str()) => *json = "***".into(),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn hidden(text: &str, secrets: &[&str]) -> String {
    let shown = secrets.iter().filter(|secret| !secret.is_empty());
    shown.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// What stands at this path (`messages.0.id`), as text.
pub(super) fn at(json: &Value, path: &str) -> Option<String> {
    let found = path.split('.').try_fold(json, |value, step| match value {
        Value::Array(values) => values.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })?;
    match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is_so) => Some(is_so.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn regex(name: &str, pattern: Option<&str>) -> anyhow::Result<Option<Regex>> {
    pattern.map(Regex::new).transpose().with_context(|| format!("{name}: is no regular expression"))
}
