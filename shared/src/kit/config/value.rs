//! How values are read: small serde helpers for `#[serde(deserialize_with = "…")]`.
//!
//! One rule for what is not set: in the document it is the empty string, in Rust it is `None`
//! ([`optional`]). A number that may be unset uses 0 and says so in its comment. Inside a list of
//! tables a key is simply left out.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::SecretString;
use serde::de::{DeserializeOwned, Deserializer, Error, IntoDeserializer};
use serde::{Deserialize, de};

/// Longest secret file; longer ones are a mistake.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// A key with `_ms` at its end.
pub fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// A key with `_s` at its end.
pub fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// A text that is not set while it is empty: path, address, name, secret.
pub fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let deserializer: de::value::StringDeserializer<D::Error> = text.into_deserializer();
    T::deserialize(deserializer).map(Some)
}

/// A list of tables; the problems of all elements come together, one a line.
///
/// The element should be `#[serde(deny_unknown_fields)]`: the default document cannot know which
/// keys an element may have.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let mut elements = Vec::new();
    let mut problems = Vec::new();
    for (index, value) in Vec::<toml::Value>::deserialize(deserializer)?.into_iter().enumerate() {
        match T::deserialize(value) {
            Ok(element) => elements.push(element),
            Err(error) => problems.push(format!("[{index}]: {}", error.message())),
        }
    }
    if problems.is_empty() { Ok(elements) } else { Err(D::Error::custom(problems.join("\n"))) }
}

/// The secret `name`, given as a value or as the file `{name}_file` (its trailing line break does
/// not count). `None` if neither is set.
pub fn secret(
    name: &str,
    value: Option<&SecretString>,
    file: Option<&Path>,
) -> anyhow::Result<Option<SecretString>> {
    match (value, file) {
        (Some(_), Some(_)) => bail!("{name}: set it or {name}_file, not both"),
        (Some(value), None) => Ok(Some(value.clone())),
        (None, Some(file)) => secret_of_file(file).map(Some).with_context(|| format!("{name}_file")),
        (None, None) => Ok(None),
    }
}

fn secret_of_file(path: &Path) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    open(path)?
        .take(SECRET_FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > SECRET_FILE_BYTES_MAX {
        bail!("{} is longer than {SECRET_FILE_BYTES_MAX} bytes", path.display());
    }
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        bail!("{} is empty", path.display());
    }
    Ok(SecretString::from(secret))
}

/// Adds a problem unless the file can be opened. For files that are read at start.
pub fn check_readable(name: &str, path: Option<&Path>, problems: &mut Vec<String>) {
    if let Some(Err(error)) = path.map(open) {
        problems.push(format!("{name}: {error:#}"));
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}
