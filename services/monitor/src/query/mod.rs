//! Questions about alarms and locks: what may be asked, and how it becomes SQL.
//!
//! Answers come in pages ([`latchline_shared::kit::api::page`]), and rows go out as [`view`]s.
//! Names of tables are not qualified: the pool's search path says which schema is asked.
//!
//! Invariant: text of a request never becomes text of a statement; it is bound.

pub mod view;

pub mod alarms;
pub mod battery;
pub mod changes;
pub mod fleet;
pub mod locks;
pub mod silences;
