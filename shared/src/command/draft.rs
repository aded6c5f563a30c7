//! The signer's side: from fields and a key to the payload that is published.

use std::time::Duration;

use serde::ser::Serializer;

use super::canonical::canonical;
use super::flat::Fields;
use super::{Action, Command, CommandError, Sign, add_target, authentication_code, malformed};
use crate::keys::CommandKey;

pub use super::flat::Value;

/// A command that is not signed yet.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// Ties the command to the state report that answers it.
    pub process_id: &'a str,
    /// What the lock shall do.
    pub action: Action,
    /// Unique per lock: 8 to 64 letters and digits.
    pub nonce: &'a str,
    /// Now, in Unix seconds.
    pub ts: i64,
    /// How long it is good for, in whole seconds, if not [`super::TTL_DEFAULT`].
    pub ttl: Option<Duration>,
    /// Which master key signs, if the payload shall say so.
    pub kid: Option<&'a str>,
    /// Further fields, signed like the others.
    pub extra: &'a [(&'a str, Value)],
}

/// How much of the code is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignLength {
    /// 64 digits.
    Full,
    /// 16 digits, only for locks that are marked as allowing it.
    Short,
}

/// The JSON payload of `draft`, signed for the lock `target`. What it returns is a command that
/// parses; a draft that would make none is refused.
pub fn sign_command(
    draft: &Draft<'_>,
    target: &str,
    key: &CommandKey,
    length: SignLength,
) -> Result<String, CommandError> {
    let mut ordered = ordered_fields(draft);
    let mut fields: Fields = ordered.iter().cloned().collect();
    if fields.len() < ordered.len() || fields.contains_key("sign") {
        return Err(malformed("an extra field has the name of another"));
    }
    add_target(&mut fields, target)?;
    let code = authentication_code(&canonical(&fields), key);
    let sign = match length {
        SignLength::Full => Sign::Full(code),
        SignLength::Short => {
            Sign::Short(*code.first_chunk().expect("the code is longer than its short form"))
        }
    };
    ordered.push(("sign".to_owned(), Value::Text(sign.to_string())));

    let mut payload = Vec::new();
    serde_json::Serializer::new(&mut payload)
        .collect_map(ordered)
        .map_err(|error| malformed(error.to_string()))?;
    Command::parse(&payload, target)?;
    String::from_utf8(payload).map_err(|error| malformed(error.to_string()))
}

/// In the order of the sample in the contract.
fn ordered_fields(draft: &Draft<'_>) -> Vec<(String, Value)> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut fields = vec![
        ("process_id".to_owned(), text(draft.process_id)),
        ("action".to_owned(), text(draft.action.name())),
        ("nonce_str".to_owned(), text(draft.nonce)),
        ("ts".to_owned(), Value::Integer(draft.ts)),
    ];
    if let Some(ttl) = draft.ttl {
        // What does not fit is no valid `ttl`, and is refused as such when the payload is read.
        fields.push(("ttl".to_owned(), Value::Integer(i64::try_from(ttl.as_secs()).unwrap_or(0))));
    }
    if let Some(kid) = draft.kid {
        fields.push(("kid".to_owned(), text(kid)));
    }
    fields.extend(draft.extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    fields
}
