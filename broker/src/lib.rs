//! Placeholder.
pub mod config;
pub mod packet;
pub mod session;
