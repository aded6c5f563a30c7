//! The thresholds in effect, shared by whoever uses them and whoever reads their file anew.
//!
//! A file that is wrong is refused as a whole, and what was in effect stays.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use latchline_shared::kit::config::Problems;

use crate::rule::load::Rules;

/// See the file.
#[derive(Debug)]
pub struct Thresholds {
    file: Option<PathBuf>,
    current: RwLock<Arc<Rules>>,
}

impl Thresholds {
    /// Those of the default and of this file. Reads it.
    pub fn open(file: Option<PathBuf>) -> Result<Self, Problems> {
        let rules = Rules::load(file.as_deref())?;
        Ok(Self { file, current: RwLock::new(Arc::new(rules)) })
    }

    /// Those in effect. The same until they are read anew.
    pub fn current(&self) -> Arc<Rules> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file anew. Blocks on the disk.
    pub fn reload(&self) -> Result<(), Problems> {
        let rules = Rules::load(self.file.as_deref())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        Ok(())
    }

    /// Those of the default and of the file as it is now, as a document. Blocks on the disk.
    pub fn document(&self) -> Result<String, Problems> {
        Rules::effective(self.file.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_refused_and_the_old_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rules.toml");
        std::fs::write(&file, "[stuck_moving]\ndelay_s = 20\n").unwrap();
        let thresholds = Thresholds::open(Some(file.clone())).unwrap();
        let delay_ms = || thresholds.current().base().stuck_moving.delay_ms;
        assert_eq!(delay_ms(), 20_000);
        for wrong in ["[stuck_moving]\ndelay_s = 0\n", "[stuck_moving]\ndelay = 1\n", "nonsense"] {
            std::fs::write(&file, wrong).unwrap();
            assert!(thresholds.reload().is_err(), "{wrong}");
            assert_eq!(delay_ms(), 20_000);
        }
        std::fs::write(&file, "[stuck_moving]\ndelay_s = 30\n").unwrap();
        thresholds.reload().unwrap();
        assert_eq!(delay_ms(), 30_000);
    }
}
