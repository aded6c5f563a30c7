//! Configuration: one commented default document per binary, embedded in it, that is defaults,
//! reference and schema at once.
//!
//! Three layers: the default document ← a file ← the environment. What the default document does
//! not have is an unknown key, with one exception: a table that is empty there is open, and takes
//! any key (a pass-through to a library). Lists are replaced as a whole. [`value`] says how a key
//! that is not set looks.
//!
//! All problems are found at once. Serde stops at the first, and cannot tell where it was once
//! `flatten` is in play; so when the whole does not fit the type, each setting is tried alone on
//! the defaults, which names every culprit with the place where it was set.
//!
//! Secrets are known by their names: what ends in a word like `password` or `_key` is redacted when
//! printed, see `redact.rs`.

mod layers;
mod redact;
pub mod value;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Table;

use layers::Setting;

/// What cannot be said by a type: bounds, and settings that fight each other.
pub trait Validate {
    /// Adds every problem; each begins with the key path it is about (`limits.receive_max: …`) and
    /// writes other keys it mentions as full paths.
    fn problems(&self, problems: &mut Vec<String>);
}

/// Everything that is wrong with a configuration, each with its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Reads the configuration: `default_toml` ← `file` ← those of `env` that begin with `env_prefix`
/// and two underscores. `LATCHLINE_BROKER__LIMITS__RECEIVE_MAX=10` is `limits.receive_max`.
pub fn load<T: DeserializeOwned + Validate>(
    default_toml: &str,
    file: Option<&Path>,
    env_prefix: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<T, Problems> {
    read(default_toml, file, env_prefix, env).map(|(config, _)| config)
}

/// The configuration that [`load`] would return, as a TOML document with secrets redacted.
pub fn effective<T: DeserializeOwned + Validate>(
    default_toml: &str,
    file: Option<&Path>,
    env_prefix: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<String, Problems> {
    let (_, mut document) = read::<T>(default_toml, file, env_prefix, env)?;
    redact::table(&mut document);
    toml::to_string_pretty(&document).map_err(|error| Problems(vec![error.to_string()]))
}

/// The keys of the default document that `T` can do without: it ignores them, or has a default of
/// its own beside the document's. For the test of each binary that there are none.
pub fn needless_keys<T: DeserializeOwned>(default_toml: &str) -> Result<Vec<String>, Problems> {
    let defaults = parse_defaults(default_toml)?;
    let is_needless = |path: &Vec<String>| {
        let mut document = defaults.clone();
        layers::remove(&mut document, path);
        T::deserialize(document).is_ok()
    };
    Ok(layers::leaves(&defaults).iter().filter(|path| is_needless(path)).map(|path| path.join(".")).collect())
}

fn read<T: DeserializeOwned + Validate>(
    default_toml: &str,
    file: Option<&Path>,
    env_prefix: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(T, Table), Problems> {
    let defaults = parse_defaults(default_toml)?;
    let mut problems = Vec::new();
    let mut settings = Vec::new();
    if let Some(file) = file {
        layers::read_file(file, &defaults, &mut settings, &mut problems);
    }
    layers::read_env(env_prefix, env, &defaults, &mut settings, &mut problems);

    let misfits = take_misfits::<T>(&defaults, &mut settings, &mut problems);
    let document = layers::merge(&defaults, &settings);
    match T::deserialize(document.clone()) {
        Ok(config) => {
            problems.extend(semantic_problems(&config, &settings, &misfits));
            if problems.is_empty() { Ok((config, document)) } else { Err(Problems(problems)) }
        }
        Err(error) => {
            problems.push(error.message().to_owned());
            Err(Problems(problems))
        }
    }
}

fn parse_defaults(default_toml: &str) -> Result<Table, Problems> {
    toml::from_str(default_toml).map_err(|error| Problems(vec![format!("built-in defaults: {error}")]))
}

/// Takes out the settings that do not fit the type, so that what is left can still be judged.
fn take_misfits<T: DeserializeOwned>(
    defaults: &Table,
    settings: &mut Vec<Setting>,
    problems: &mut Vec<String>,
) -> Vec<Setting> {
    if T::deserialize(layers::merge(defaults, settings)).is_ok() {
        return Vec::new();
    }
    let mut misfits = Vec::new();
    settings.retain(|setting| {
        let alone = T::deserialize(layers::merge(defaults, std::slice::from_ref(setting)));
        let Err(error) = alone.map(drop) else { return true };
        let message = if redact::is_secret(setting.key()) { "does not fit" } else { error.message() };
        for line in message.lines() {
            // An element of a list begins with its index: `access.rules[2]: …`.
            let separator = if line.starts_with('[') { "" } else { ": " };
            problems.push(format!("{}: {}{separator}{line}", setting.origin, setting.dotted()));
        }
        misfits.push(setting.clone());
        false
    });
    misfits
}

/// What [`Validate`] finds, with the place where the setting was made. A problem that mentions a
/// misfit is left out: it is about the default that stands in for it.
fn semantic_problems<T: Validate>(config: &T, settings: &[Setting], misfits: &[Setting]) -> Vec<String> {
    let mut problems = Vec::new();
    config.problems(&mut problems);
    problems.retain(|problem| !misfits.iter().any(|misfit| problem.contains(&misfit.dotted())));
    for problem in &mut problems {
        let path_of = |setting: &&Setting| {
            problem.strip_prefix(&setting.dotted()).is_some_and(|rest| rest.starts_with([':', '[', '.', ' ']))
        };
        if let Some(setting) = settings.iter().rev().find(path_of) {
            *problem = format!("{}: {problem}", setting.origin);
        }
    }
    problems
}
