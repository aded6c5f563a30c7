//! Questions about the history: what may be asked, and how it becomes SQL.
//!
//! A request's parameters ([`latchline_shared::kit::api::params`]) make a [`filter`]; a [`page`] of it is read from Postgres, from where the
//! [`cursor`] of the page before stands; rows go out as [`view`]s
//! or as [`csv`].
//!
//! Invariant: text of a request never becomes text of a statement; it is bound.

pub mod cursor;
pub mod filter;
pub mod page;

pub mod csv;
pub mod view;
