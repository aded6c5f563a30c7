//! The `[templates]` table.

use std::path::PathBuf;

use latchline_shared::kit::config::{Validate, value};
use serde::Deserialize;

use super::Templates;

/// Where the words come from.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// The folder whose files replace those that are built in; none: those that are built in.
    #[serde(deserialize_with = "value::optional")]
    pub folder: Option<PathBuf>,
}

impl Validate for Settings {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.folder.is_some()
            && let Err(error) = Templates::load(self.folder.as_deref())
        {
            problems.push(format!("templates.folder: {error:#}"));
        }
    }
}
