//! Placeholder.
pub mod config;
pub mod hooks;
pub mod packet;
pub mod session;
