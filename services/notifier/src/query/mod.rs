//! Questions about notifications and the directory: what may be asked, and how it becomes SQL.
//!
//! Answers come in pages ([`latchline_shared::kit::api::page`]), and rows go out as [`view`]s.
//!
//! Invariant: text of a request never becomes text of a statement; it is bound. What is asked about
//! notifications has no address in full and no code; what is asked about people has their addresses.

pub mod view;

pub mod contacts;
pub mod locks;
pub mod notifications;
pub mod users;
