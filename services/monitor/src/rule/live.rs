//! The rules in force, which can be read anew while they are applied.
//!
//! Invariant: what is shown ([`LiveRules::document`]) is what is applied, and rules are in force as
//! a whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use latchline_shared::kit::config::Problems;
use serde_json::Value;

use super::load::Rules;

/// The rules in force, and the file that they come from.
#[derive(Debug)]
pub struct LiveRules {
    /// None: the default.
    file: Option<PathBuf>,
    loaded: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    rules: Arc<Rules>,
    document: Value,
}

impl LiveRules {
    /// Reads the file; blocks on the disk.
    pub fn open(file: Option<PathBuf>) -> Result<Self, Problems> {
        let loaded = ArcSwap::from_pointee(read(&file)?);
        Ok(Self { file, loaded })
    }

    /// Those that are in force now.
    pub fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.loaded.load().rules)
    }

    /// The same as a document.
    pub fn document(&self) -> Value {
        self.loaded.load().document.clone()
    }

    /// Reads the file anew; if anything is wrong, what was in force stays. Blocks on the disk.
    pub fn reload(&self) -> Result<(), Problems> {
        self.loaded.store(Arc::new(read(&self.file)?));
        Ok(())
    }
}

fn read(file: &Option<PathBuf>) -> Result<Loaded, Problems> {
    let (rules, document) = Rules::read(file.as_deref())?;
    let document = serde_json::to_value(document).map_err(|error| Problems(vec![error.to_string()]))?;
    Ok(Loaded { rules: Arc::new(rules), document })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_changes_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        let rules = LiveRules::open(Some(file.path().to_owned())).unwrap();
        let default = rules.document();
        assert_eq!(default, LiveRules::open(None).unwrap().document());
        assert_eq!(default["lock_fault"]["severity"], "critical", "{default:#}");

        write(
            "[lock_fault]\nseverity = \"minor\"\n[[override]]\nlocks = [\"1*\"]\nlock_fault.severity = \"major\"",
        );
        rules.reload().unwrap();
        let changed = rules.document();
        assert_eq!(changed["lock_fault"]["severity"], "minor");
        assert_eq!(changed["override"][0]["locks"][0], "1*");
        let before = rules.current();
        for wrong in ["[lock_fault]\nseverity = \"bad\"", "[x]\ny = 1", "=", "[lock_fault]\nseverity = 1"] {
            write(wrong);
            assert!(!rules.reload().unwrap_err().0.is_empty(), "{wrong}");
            assert!(Arc::ptr_eq(&before, &rules.current()) && rules.document() == changed);
        }
    }
}
