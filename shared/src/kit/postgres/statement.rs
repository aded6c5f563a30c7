//! Statements that are put together from texts of the program and values of the caller.
//!
//! Invariant: what a caller says is bound and never part of the text. They go out with
//! `query_typed`, unnamed, so that each is planned for its values: partial indexes serve some only.

use tokio_postgres::types::{ToSql, Type};

/// A statement and its values.
#[derive(Debug, Default)]
pub struct Statement {
    /// The SQL.
    pub text: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Statement {
    /// As the client takes them.
    pub fn values(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect()
    }

    /// Goes on with this.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Binds a value, and returns its placeholder.
    pub fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.values.push((Box::new(value), kind));
        format!("${}", self.values.len())
    }

    /// Goes on with `and {left}{value}{right}`.
    pub fn and(&mut self, left: &str, value: impl ToSql + Sync + Send + 'static, kind: Type, right: &str) {
        let placeholder = self.bind(value, kind);
        self.push(&format!(" and {left}{placeholder}{right}"));
    }
}
