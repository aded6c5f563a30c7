//! Records that the bridge has stored, for the bare side to send again, and whether both sides store
//! the same.
//!
//! They differ among themselves as the bridge's do, in what is counted and timed, so that compressing a
//! batch of them is the same work.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::kafka::reader::Record;

/// What is sent of a record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Template {
    /// Its key.
    pub key: Option<String>,
    /// Its headers by name.
    pub headers: BTreeMap<String, String>,
    /// Its value, which is JSON.
    pub value: String,
}

impl Template {
    /// Of a record that is stored.
    pub(crate) fn of(record: Record) -> Self {
        let Record { key, headers, value, .. } = record;
        Self { key, headers, value: String::from_utf8_lossy(&value).into_owned() }
    }

    /// Those in a file, of which there must be some.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        let json = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let templates: Vec<Self> = serde_json::from_slice(&json)?;
        ensure!(!templates.is_empty(), "no records in {}", path.display());
        Ok(templates)
    }
}

/// As the bridge was given them, one lock after the other: so each batch has of as many locks.
pub(crate) fn by_turns(templates: Vec<Template>) -> Vec<Template> {
    let mut of_lock = BTreeMap::<_, VecDeque<Template>>::new();
    for template in templates {
        of_lock.entry(template.key.clone()).or_default().push_back(template);
    }
    let mut ordered = Vec::new();
    loop {
        let before = ordered.len();
        ordered.extend(of_lock.values_mut().filter_map(VecDeque::pop_front));
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// Fails if what both sides have stored is not the same, in whatever order of locks, or if its records
/// do not differ among themselves.
pub(crate) fn same(ours: &[Template], bare: &[Template]) -> anyhow::Result<()> {
    let sorted = |templates: &[Template]| {
        let mut templates = templates.to_vec();
        templates.sort();
        templates
    };
    let (ours, bare) = (sorted(ours), sorted(bare));
    ensure!(ours.len() == bare.len(), "the bridge stored {} records, bare {}", ours.len(), bare.len());
    if let Some((ours, bare)) = ours.iter().zip(&bare).find(|(ours, bare)| ours != bare) {
        anyhow::bail!("the bridge stored {ours:?}, bare {bare:?}");
    }
    let repeated = ours.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(repeated.is_none(), "the bridge stored the same twice: {repeated:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_take_turns() {
        let template = |key: &str, value: &str| Template {
            key: Some(key.to_owned()),
            headers: BTreeMap::new(),
            value: value.to_owned(),
        };
        let [a1, a2, b1, c1] = [("a", "1"), ("a", "2"), ("b", "1"), ("c", "1")].map(|(k, v)| template(k, v));
        let ordered = by_turns(vec![a1.clone(), a2.clone(), b1.clone(), c1.clone()]);
        assert_eq!(ordered, [a1, b1, c1, a2]);
    }

    #[test]
    fn what_is_not_the_same_is_said() {
        let template = |key: &str, value: &str| Template {
            key: Some(key.to_owned()),
            headers: BTreeMap::from([("node".to_owned(), "a".to_owned())]),
            value: value.to_owned(),
        };
        let (one, two) = (template("1", "{}"), template("2", "{}"));
        same(&[one.clone(), two.clone()], &[two, one.clone()]).unwrap();
        for (ours, bare, why) in [
            (vec![one.clone()], vec![], "stored 1 records, bare 0"),
            (vec![one.clone()], vec![template("1", "{1}")], "the bridge stored"),
            (vec![one.clone(), one.clone()], vec![one.clone(), one], "the same twice"),
        ] {
            let error = same(&ours, &bare).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
