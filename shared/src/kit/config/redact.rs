//! Hides secrets in what is printed.
//!
//! One rule for all binaries, so that nobody has to keep a list: a key holds a secret if its last
//! word is `key`, `password`, `secret`, `token` or `pem` (`key` alone is no secret: records have
//! one). Passwords inside URLs are hidden under any key.

use toml::{Table, Value};

const HIDDEN: &str = "<redacted>";

/// Whether the key holds a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let last = key.rsplit(['_', '-', '.']).next().unwrap_or_default();
    match last {
        "password" | "secret" | "token" | "pem" => true,
        "key" => last.len() < key.len(),
        _ => false,
    }
}

/// Hides the secrets of a document; an empty one stays empty, so that one sees that it is not set.
pub(super) fn table(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        redact(is_secret(key), value);
    }
}

fn redact(secret: bool, value: &mut Value) {
    match value {
        Value::Table(inner) => table(inner),
        Value::Array(elements) => elements.iter_mut().for_each(|element| redact(secret, element)),
        Value::String(text) if secret && !text.is_empty() => HIDDEN.clone_into(text),
        Value::String(text) => {
            if let Some(redacted) = without_password(text) {
                *text = redacted;
            }
        }
        _ => {}
    }
}

/// `scheme://user:password@host/…` without its password, if it has one.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, password) = authority.rsplit_once('@')?.0.split_once(':')?;
    let after = &rest[user.len() + 1 + password.len()..];
    Some(format!("{scheme}://{user}:{HIDDEN}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for (key, expected) in [
            ("token", true),
            ("sasl.password", true),
            ("fleet_master_key", true),
            ("ssl.key.pem", true),
            ("client-secret", true),
            ("key", false),
            ("fleet_master_key_file", false),
            ("key_file", false),
            ("monkey", false),
        ] {
            assert_eq!(is_secret(key), expected, "{key}");
        }
    }

    #[test]
    fn passwords_in_urls_are_hidden() {
        for (url, expected) in [
            ("postgres://u:p@db/x", Some("postgres://u:<redacted>@db/x")),
            ("postgres://u:p:a@b@db:5432?y=1", Some("postgres://u:<redacted>@db:5432?y=1")),
            ("postgres://u@db/x", None),
            ("http://host/a:b@c", None),
            ("latchline@127.0.0.1", None),
        ] {
            assert_eq!(without_password(url).as_deref(), expected, "{url}");
        }
    }
}
