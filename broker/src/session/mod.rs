//! Sessions.
pub mod delivery;
