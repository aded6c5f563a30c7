//! The layers of a configuration: which settings a file and the environment make, checked against
//! the default document, and how they are laid over it.

use std::fmt;
use std::path::Path;

use toml::{Table, Value};

/// One key that was set, and where.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    path: Vec<String>,
    value: Value,
    pub(super) origin: Origin,
}

/// Where a setting was made.
#[derive(Debug, Clone)]
pub(super) struct Origin(String);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting {
    /// The last key of the path.
    pub(super) fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// The path as people write it.
    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }
}

/// The default document with the settings laid over it, in their order.
pub(super) fn merge(defaults: &Table, settings: &[Setting]) -> Table {
    let mut document = defaults.clone();
    for setting in settings {
        insert(&mut document, &setting.path, setting.value.clone());
    }
    document
}

/// Puts a value at a path.
fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [key, rest @ ..] => {
            if let Value::Table(inner) =
                table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()))
            {
                insert(inner, rest, value);
            }
        }
    }
}

/// Removes the value at a path.
pub(super) fn remove(table: &mut Table, path: &[String]) {
    match path {
        [] => {}
        [key] => drop(table.remove(key)),
        [key, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(key) {
                remove(inner, rest);
            }
        }
    }
}

/// Paths of all that is not a table with keys.
pub(super) fn leaves(table: &Table) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                for path in leaves(inner) {
                    paths.push(std::iter::once(key.clone()).chain(path).collect());
                }
            }
            _ => paths.push(vec![key.clone()]),
        }
    }
    paths
}

/// Adds the settings of a TOML file.
pub(super) fn read_file(
    file: &Path,
    defaults: &Table,
    settings: &mut Vec<Setting>,
    problems: &mut Vec<String>,
) {
    let origin = Origin(file.display().to_string());
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return problems.push(format!("{origin}: cannot be read: {error}")),
    };
    match toml::from_str::<Table>(&text) {
        Ok(table) => Walk { origin, settings, problems }.table(&mut Vec::new(), table, defaults),
        Err(error) => {
            // The error's own Display shows the line, which may hold a secret.
            let before = &text.as_bytes()[..error.span().map_or(0, |span| span.start.min(text.len()))];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            problems.push(format!("{origin}: line {line}: {}", error.message()));
        }
    }
}

/// Adds the settings of the environment.
pub(super) fn read_env(
    prefix: &str,
    env: impl Iterator<Item = (String, String)>,
    defaults: &Table,
    settings: &mut Vec<Setting>,
    problems: &mut Vec<String>,
) {
    let mut variables: Vec<_> = env.collect();
    variables.sort();
    for (name, raw) in variables {
        let Some(rest) = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("__")) else { continue };
        let path: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
        Walk { origin: Origin(name), settings, problems }.variable(path, raw, defaults);
    }
}

/// A walk along the default document that collects settings of one origin.
struct Walk<'a> {
    origin: Origin,
    settings: &'a mut Vec<Setting>,
    problems: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn table(&mut self, path: &mut Vec<String>, table: Table, defaults: &Table) {
        for (key, value) in table {
            path.push(key);
            match (defaults.get(&path[path.len() - 1]), value) {
                (Some(Value::Table(inner)), Value::Table(value)) => self.table(path, value, inner),
                (Some(Value::Table(_)), _) => self.problem(path, "is a table"),
                (Some(_), Value::Table(_)) => self.problem(path, "is not a table"),
                (Some(_), value) => self.setting(path, value),
                (None, value) if is_open(path, defaults) => self.setting(path, value),
                (None, _) => self.unknown(path, defaults),
            }
            path.pop();
        }
    }

    fn variable(&mut self, path: Vec<String>, raw: String, defaults: &Table) {
        let mut table = defaults;
        for depth in 1..=path.len() {
            let (here, is_last) = (&path[..depth], depth == path.len());
            match table.get(&path[depth - 1]) {
                Some(Value::Table(inner)) if !is_last => table = inner,
                Some(Value::Table(inner)) => match raw.parse() {
                    Ok(Value::Table(value)) => self.table(&mut path.clone(), value, inner),
                    _ => self.problem(here, "is a table, give it as { key = value }"),
                },
                Some(default) if is_last => self.setting(here, typed(raw.clone(), default)),
                Some(Value::Array(_)) => return self.problem(here, "is a list, set it as a whole"),
                None if is_last && is_open(here, table) => self.setting(here, Value::String(raw.clone())),
                _ => return self.unknown(here, table),
            }
        }
    }

    fn setting(&mut self, path: &[String], value: Value) {
        self.settings.push(Setting { path: path.to_vec(), value, origin: self.origin.clone() });
    }

    fn problem(&mut self, path: &[String], what: &str) {
        self.problems.push(format!("{}: {}: {what}", self.origin, path.join(".")));
    }

    fn unknown(&mut self, path: &[String], siblings: &Table) {
        let known: Vec<_> = siblings.keys().map(String::as_str).collect();
        self.problem(path, &format!("unknown key, known here: {}", known.join(", ")));
    }
}

/// Whether the table at the path's parent takes any key: it is empty in the default document, and
/// it is not the document itself.
fn is_open(path: &[String], parent: &Table) -> bool {
    path.len() > 1 && parent.is_empty()
}

/// A variable's value: TOML if it has the type of the default, else the text as it is.
fn typed(raw: String, default: &Value) -> Value {
    match raw.parse::<Value>() {
        Ok(Value::Integer(integer)) if default.is_float() => Value::Integer(integer),
        Ok(value) if value.same_type(default) => value,
        _ => Value::String(raw),
    }
}
